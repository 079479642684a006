"""The stages `agglomeration` and `lookup`: the reduced edge table -> the merge tree -> the segment of each fragment.

Both process the whole region as one block. `agglomeration` computes the merge tree or, for comparison, a partition by
another method. The partition is stored as a tree that is valid for one threshold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroseg.agglomeration.constraints import Edit, constraints_of, require_fitting
from neuroseg.agglomeration.continued import continued_tree
from neuroseg.agglomeration.evidence import with_evidence
from neuroseg.agglomeration.multicut import multicut_partition
from neuroseg.agglomeration.names import MERGE_TREE, WATERZ
from neuroseg.agglomeration.partition import NO_CONSTRAINTS, Constraints, segment_lookup
from neuroseg.agglomeration.scorings import Scoring
from neuroseg.agglomeration.tree import merge_tree
from neuroseg.agglomeration.waterz import waterz_partition
from neuroseg.blocks import Block, Lattice
from neuroseg.geometry import describe, slices
from neuroseg.stage import Process
from neuroseg.storage.arrays import open_array
from neuroseg.storage.parts import read_parts, read_table, write_lookup, write_table
from neuroseg.storage.workspace import Workspace, reduced
from neuroseg.tables import BINS, EDGES, NODES, TABLES, TREE, Table, concatenated, empty
from neuroseg.volumes.affinity_source import AffinitySource

ALGORITHM = 2
_LOOKUP_ALGORITHM = 1


@dataclass(frozen=True)
class AgglomerationStage:
    """Compute the merge tree. `ranges`: the lattice of the reduced tables."""

    workspace: Workspace
    ranges: Lattice
    upstream: str
    scoring: Scoring
    long_range: bool

    name = "agglomeration"
    outputs = ("merges/tree.parquet", "merges/nodes.parquet")
    halo = (0, 0, 0)
    scale = (1, 1, 1)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The reduced tables that the scoring needs."""
        return tuple(reduced(table) for table in tables_of(self.scoring, long_range=self.long_range))

    @property
    def lattice(self) -> Lattice:
        """One block that covers the whole volume."""
        return Lattice(self.ranges.volume_shape, self.ranges.volume_shape, self.ranges.roi)

    @property
    def scope(self) -> str:
        """The region of interest, to which the tree applies."""
        return describe(self.lattice.roi)

    @property
    def identity(self) -> Mapping[str, Any]:
        """The identity of the edges, and the scoring."""
        return {
            "algorithm": ALGORITHM,
            "method": MERGE_TREE,
            "edges": self.upstream,
            "scoring": str(self.scoring),
            "long_range": self.long_range,
        }

    def prepare(self) -> None:
        """Do nothing: there is no array to create."""

    @contextmanager
    def open(self) -> Iterator[Process]:
        """Yield the function that processes the whole region."""

        def process(block: Block) -> None:
            nodes, edges, bins = _tables(self)
            write_table(self.workspace.all_nodes, nodes)
            write_table(self.workspace.tree, merge_tree(edges, bins, self.scoring))

        yield process


@dataclass(frozen=True)
class PartitionStage:
    """Partition the fragments by multicut, gaec or waterz at a threshold. waterz reads the whole region into memory."""

    workspace: Workspace
    ranges: Lattice
    upstream: str
    scoring: Scoring
    long_range: bool
    method: str
    threshold: float
    affinities: AffinitySource

    name = "agglomeration"
    outputs = AgglomerationStage.outputs
    halo = (0, 0, 0)
    scale = (1, 1, 1)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The tables, and affinities and fragments for waterz."""
        tables = tables_of(self.scoring, long_range=self.long_range)
        return ("affinities.zarr", "fragments.zarr", *(reduced(table) for table in tables))

    @property
    def lattice(self) -> Lattice:
        """One block that covers the whole volume."""
        return Lattice(self.ranges.volume_shape, self.ranges.volume_shape, self.ranges.roi)

    @property
    def scope(self) -> str:
        """The region of interest, to which the partition applies."""
        return describe(self.lattice.roi)

    @property
    def identity(self) -> Mapping[str, Any]:
        """The identity of the edges, the method, and the threshold, on which the partition depends."""
        return {
            "algorithm": ALGORITHM,
            "method": self.method,
            "edges": self.upstream,
            "scoring": str(self.scoring),
            "long_range": self.long_range,
            "threshold": self.threshold,
        }

    def prepare(self) -> None:
        """Do nothing: there is no array to create."""

    @contextmanager
    def open(self) -> Iterator[Process]:
        """Yield the function that processes the whole region."""

        def process(block: Block) -> None:
            nodes, edges, bins = _tables(self)
            fragments = nodes["fragment"]
            if self.method == WATERZ:
                parts = self._by_waterz(block, fragments)
            else:
                parts = multicut_partition(
                    fragments, edges, bins, self.scoring, threshold=self.threshold, method=self.method
                )
            tree = continued_tree(parts, fragments, edges, bins, self.scoring, threshold=self.threshold)
            write_table(self.workspace.all_nodes, nodes)
            write_table(self.workspace.tree, tree)

        yield process

    def _by_waterz(self, block: Block, fragments: NDArray[np.uint64]) -> NDArray[np.int64]:
        links = self.affinities.open()(block.write_roi)
        labels = np.asarray(open_array(self.workspace.fragments)[slices(block.write_roi)])
        offsets = self.affinities.offsets
        return waterz_partition(links, offsets, labels, fragments, self.scoring, threshold=self.threshold)


def tables_of(scoring: Scoring, *, long_range: bool) -> tuple[str, ...]:
    """Return the required tables. Histograms are only required for scorings of every contact."""
    evidence = ("edges", "long_range") if long_range else ("edges",)
    bins = ("bins", "long_range_bins")[: len(evidence)] if scoring.every_contact else ()
    return (*evidence, *bins, "nodes")


def _tables(stage: AgglomerationStage | PartitionStage) -> tuple[Table, Table, Table]:
    """Return nodes, edges and bins of all ranges, with evidence of long-range channels if they are used."""
    indices = stage.ranges.indices()

    def whole(table: str) -> Table:
        # Ranges and the rows in each range are sorted.
        return concatenated(read_parts(stage.workspace.reduced(table), indices, TABLES[table]), TABLES[table])

    nodes, contacts, bins = whole("nodes"), whole("edges"), empty(BINS)
    if stage.scoring.every_contact:
        bins = whole("bins")
    if not stage.long_range:
        return nodes, contacts, bins
    if stage.scoring.every_contact:
        bins = with_evidence(bins, whole("long_range_bins"), contacts, BINS)
    return nodes, with_evidence(contacts, whole("long_range"), contacts, EDGES), bins


@dataclass(frozen=True)
class LookupStage:
    """Compute the segment of each fragment from the merge tree, for a threshold. Merge or drop small segments.

    `edits`: the decisions of a person, which hold at every threshold.
    """

    workspace: Workspace
    blocks: Lattice
    upstream: str
    threshold: float
    min_size_voxels: int
    small: str
    edits: tuple[Edit, ...] = ()

    name = "lookup"
    outputs = ("merges/lookup.npy",)
    halo = (0, 0, 0)
    scale = (1, 1, 1)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The merge tree, and fragments to find those at the points of edits."""
        tree = ("merges/tree.parquet", "merges/nodes.parquet")
        return ("fragments.zarr", *tree) if self.edits else tree

    @property
    def lattice(self) -> Lattice:
        """One block that covers the whole volume."""
        return Lattice(self.blocks.volume_shape, self.blocks.volume_shape, self.blocks.roi)

    @property
    def scope(self) -> str:
        """The region of interest, to which the tree applies."""
        return describe(self.lattice.roi)

    @property
    def identity(self) -> Mapping[str, Any]:
        """The identity of the tree, the threshold, the treatment of small segments, and the edits."""
        edits = {"edits": sorted([edit.kind, *sorted(edit.points_voxels)] for edit in self.edits)}
        return {
            "algorithm": _LOOKUP_ALGORITHM,
            "tree": self.upstream,
            "threshold": self.threshold,
            "min_size_voxels": self.min_size_voxels,
            "small": self.small,
            **(edits if self.edits else {}),
        }

    def prepare(self) -> None:
        """Do nothing: there is no array to create."""

    @contextmanager
    def open(self) -> Iterator[Process]:
        """Yield the function that processes the whole region."""

        def process(block: Block) -> None:
            nodes = read_table(self.workspace.all_nodes, NODES)
            lookup = segment_lookup(
                read_table(self.workspace.tree, TREE),
                nodes,
                threshold=self.threshold,
                min_size_voxels=self.min_size_voxels,
                small=self.small,
                constraints=self._constraints(nodes["fragment"]),
            )
            write_lookup(self.workspace.lookup, lookup)

        yield process

    def _constraints(self, fragments: NDArray[np.uint64]) -> Constraints:
        if not self.edits:
            return NO_CONSTRAINTS
        found = constraints_of(self.edits, open_array(self.workspace.fragments), self.blocks.roi, fragments)
        require_fitting(found, self.workspace.path)
        return found.constraints

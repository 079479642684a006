"""The stage `agglomeration` for other methods: multicut, gaec or waterz, for comparison.

They need a threshold and the whole region in one process. The partition is stored as a tree for this threshold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroseg.agglomeration.continued import continued_tree
from neuroseg.agglomeration.evidence import with_evidence
from neuroseg.agglomeration.multicut import multicut_partition
from neuroseg.agglomeration.names import WATERZ
from neuroseg.agglomeration.scorings import Scoring
from neuroseg.agglomeration.stage import ALGORITHM, tables_of
from neuroseg.agglomeration.waterz import waterz_partition
from neuroseg.blocks import Block, Lattice
from neuroseg.geometry import describe, slices
from neuroseg.stage import Process
from neuroseg.storage.arrays import open_array
from neuroseg.storage.merges import remove_levels
from neuroseg.storage.parts import read_parts, write_table
from neuroseg.storage.workspace import MERGES, Workspace
from neuroseg.tables import BINS, EDGES, TABLES, Table, combined, empty
from neuroseg.volumes.affinity_source import AffinitySource


@dataclass(frozen=True)
class PartitionStage:
    """Partition the fragments by multicut, gaec or waterz at a threshold. waterz reads the whole region into memory."""

    workspace: Workspace
    blocks: Lattice
    upstream: str
    scoring: Scoring
    long_range: bool
    method: str
    threshold: float
    affinities: AffinitySource

    name = "agglomeration"
    outputs = (f"{MERGES}/tree.parquet", f"{MERGES}/nodes.parquet")
    halo = (0, 0, 0)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The tables, and affinities and fragments for waterz."""
        tables = tables_of(self.scoring, long_range=self.long_range)
        return ("affinities.zarr", "fragments.zarr", *tables)

    @property
    def lattice(self) -> Lattice:
        """One block that covers the whole volume."""
        return Lattice(self.blocks.volume_shape, self.blocks.volume_shape, self.blocks.roi)

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
        """Remove the merges of groups, if the workspace has a merge tree."""
        remove_levels(self.workspace, 1)

    @contextmanager
    def open(self) -> Iterator[Process]:
        """Yield the function that processes the whole region."""

        def process(block: Block) -> None:
            nodes, edges, bins = self._tables()
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

    def _tables(self) -> tuple[Table, Table, Table]:
        """Return nodes, edges and bins of all blocks, with evidence of long-range channels if they are used."""
        indices = self.blocks.indices()

        def whole(table: str) -> Table:
            parts = read_parts(self.workspace.artifact(table), indices, TABLES[table])
            return combined(parts, TABLES[table])

        nodes, contacts, bins = whole("nodes"), whole("edges"), empty(BINS)
        if self.scoring.every_contact:
            bins = whole("bins")
        if not self.long_range:
            return nodes, contacts, bins
        if self.scoring.every_contact:
            bins = with_evidence(bins, whole("long_range_bins"), contacts, BINS)
        return nodes, with_evidence(contacts, whole("long_range"), contacts, EDGES), bins

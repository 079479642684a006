"""The stages `agglomeration` and `lookup`: all parts of the edge table -> the merge tree -> each fragment's segment.

Both are reduces: one block, the whole region.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from neuroseg.agglomeration.partition import segment_lookup
from neuroseg.agglomeration.scorings import Scoring
from neuroseg.agglomeration.tree import merge_tree
from neuroseg.blocks import Block, Lattice
from neuroseg.geometry import describe
from neuroseg.stage import Process
from neuroseg.storage.parts import read_parts, read_table, write_lookup, write_table
from neuroseg.storage.workspace import Workspace
from neuroseg.tables import BINS, EDGES, NODES, TREE, combined, empty

ALGORITHM = 1


@dataclass(frozen=True)
class AgglomerationStage:
    """Combines the parts and merges; `blocks` is the lattice whose parts are read."""

    workspace: Workspace
    blocks: Lattice
    upstream: str
    scoring: Scoring

    name = "agglomeration"
    outputs = ("merges/tree.parquet", "merges/nodes.parquet")
    halo = (0, 0, 0)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Histograms only where the scoring looks at every contact."""
        return ("edges", "nodes", "bins") if self.scoring.every_contact else ("edges", "nodes")

    @property
    def lattice(self) -> Lattice:
        """One block: the whole volume."""
        return Lattice(self.blocks.volume_shape, self.blocks.volume_shape, self.blocks.roi)

    @property
    def scope(self) -> str:
        """The tree is that of the region of interest."""
        return describe(self.lattice.roi)

    @property
    def identity(self) -> Mapping[str, Any]:
        """What made the edges, and the scoring."""
        return {"algorithm": ALGORITHM, "edges": self.upstream, "scoring": str(self.scoring)}

    def prepare(self) -> None:
        """Nothing to create."""

    @contextmanager
    def open(self) -> Iterator[Process]:
        """Yield the reduce."""

        def process(block: Block) -> None:
            parts = self.blocks.indices()
            nodes = combined(read_parts(self.workspace.nodes, parts, NODES), NODES)
            edges = combined(read_parts(self.workspace.edges, parts, EDGES), EDGES)
            bins = empty(BINS)
            if self.scoring.every_contact:
                bins = combined(read_parts(self.workspace.bins, parts, BINS), BINS)
            write_table(self.workspace.all_nodes, nodes)
            write_table(self.workspace.tree, merge_tree(edges, bins, self.scoring))

        yield process


@dataclass(frozen=True)
class LookupStage:
    """Cuts the merge tree at a threshold and treats small segments."""

    workspace: Workspace
    blocks: Lattice
    upstream: str
    threshold: float
    min_size_voxels: int
    small: str

    name = "lookup"
    inputs = ("merges/tree.parquet", "merges/nodes.parquet")
    outputs = ("merges/lookup.npy",)
    halo = (0, 0, 0)

    @property
    def lattice(self) -> Lattice:
        """One block: the whole volume."""
        return Lattice(self.blocks.volume_shape, self.blocks.volume_shape, self.blocks.roi)

    @property
    def scope(self) -> str:
        """The tree is that of the region of interest."""
        return describe(self.lattice.roi)

    @property
    def identity(self) -> Mapping[str, Any]:
        """The tree, the threshold and what happens to small segments."""
        return {
            "algorithm": ALGORITHM,
            "tree": self.upstream,
            "threshold": self.threshold,
            "min_size_voxels": self.min_size_voxels,
            "small": self.small,
        }

    def prepare(self) -> None:
        """Nothing to create."""

    @contextmanager
    def open(self) -> Iterator[Process]:
        """Yield the reduce."""

        def process(block: Block) -> None:
            lookup = segment_lookup(
                read_table(self.workspace.tree, TREE),
                read_table(self.workspace.all_nodes, NODES),
                threshold=self.threshold,
                min_size_voxels=self.min_size_voxels,
                small=self.small,
            )
            write_lookup(self.workspace.lookup, lookup)

        yield process

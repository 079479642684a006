"""The stage `lookup`: the merge tree and a threshold -> the segment of each fragment. One block is the whole region."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroseg.agglomeration.constraints import Edit, constraints_of, require_fitting
from neuroseg.agglomeration.ordering import row_order
from neuroseg.agglomeration.partition import NO_CONSTRAINTS, Constraints, Regions, numbered
from neuroseg.blocks import Block, Lattice
from neuroseg.geometry import describe
from neuroseg.stage import Process
from neuroseg.storage.arrays import open_array
from neuroseg.storage.merges import count_nodes, node_parts, read_tree, tree_parts
from neuroseg.storage.parts import write_lookup
from neuroseg.storage.table_memory import TableMemory
from neuroseg.storage.workspace import Workspace
from neuroseg.tables import TREE, Allocate

ALGORITHM = 1
_BYTES_OF_A_FRAGMENT = 45
_LINKS = {name: TREE[name] for name in ("link_u", "link_v", "score")}


@dataclass(frozen=True)
class LookupStage:
    """Compute the segment of each fragment from the merge tree, for a threshold. Merge or drop small segments.

    `merges`: the tables of all merges and nodes. `edits`: the decisions of a person, which hold at every threshold.
    Arrays that need more than `memory` are in temporary files in the workspace.
    """

    workspace: Workspace
    blocks: Lattice
    merges: tuple[str, ...]
    upstream: str
    threshold: float
    min_size_voxels: int
    small: str
    memory: TableMemory
    edits: tuple[Edit, ...] = ()

    name = "lookup"
    outputs = ("merges/lookup.npy",)
    halo = (0, 0, 0)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The merge tree, and fragments to find those at the points of edits."""
        return ("fragments.zarr", *self.merges) if self.edits else self.merges

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
            "algorithm": ALGORITHM,
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
            count = count_nodes(self.workspace)
            new = self.memory.allocator(count * _BYTES_OF_A_FRAGMENT, self.workspace.path)
            fragments, sizes = self._nodes(count, new)
            constraints = self._constraints(fragments)
            regions = Regions(sizes, self.min_size_voxels, self.small, constraints, new)
            del sizes
            # Joined fragments may lie in different groups. Then the order of all merges counts.
            every = [read_tree(self.workspace, _LINKS)] if len(constraints.joined) else tree_parts(self.workspace)
            for rows in every:
                a, b = (_rows_of(rows[name], fragments) for name in ("link_u", "link_v"))
                regions.merge(a, b, rows["score"], self.threshold)
            write_lookup(self.workspace.lookup, {"fragment": fragments, "segment": numbered(regions.roots(), new)})

        yield process

    def _nodes(self, count: int, new: Allocate) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Return the fragments, ascending, and their voxels. Reads all columns, so that damage is found."""
        fragments, sizes, start = new(count, np.uint64), new(count, np.int64), 0
        for part in node_parts(self.workspace):
            rows = slice(start, start + len(part["fragment"]))
            fragments[rows], sizes[rows] = part["fragment"], part["voxel_count"]
            start = rows.stop
        order = row_order(fragments, new=new)
        sorted_fragments, sorted_sizes = new(count, np.uint64), new(count, np.int64)
        np.take(fragments, order, out=sorted_fragments, mode="clip")  # another mode makes a copy
        np.take(sizes, order, out=sorted_sizes, mode="clip")
        return sorted_fragments, sorted_sizes

    def _constraints(self, fragments: NDArray[np.uint64]) -> Constraints:
        if not self.edits:
            return NO_CONSTRAINTS
        found = constraints_of(self.edits, open_array(self.workspace.fragments), self.blocks.roi, fragments)
        require_fitting(found, self.workspace.path)
        return found.constraints


def _rows_of(names: NDArray[np.uint64], fragments: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the row of each name in the ascending `fragments`. Names are looked up in order, in nearby memory."""
    order, rows = row_order(names), np.empty(len(names), np.int64)
    rows[order] = np.searchsorted(fragments, names[order])
    return rows

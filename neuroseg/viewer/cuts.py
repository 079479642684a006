"""The merge tree at any threshold: which fragments form a segment, how many there are, how good they are.

    tree, nodes, threshold, smallest segment  ->  Cut  ->  labels of a chunk of fragments
                                                       ->  number of segments, share of the largest, VOI

A segment is named after its smallest fragment. So a segment that a change of the threshold leaves alone keeps its name
and its colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.agglomeration.partition import NO_CONSTRAINTS, Constraints, merge_rows
from neuroseg.evaluation.contingency import CONTINGENCY
from neuroseg.evaluation.metrics import scores_of
from neuroseg.storage.merges import read_nodes, read_tree
from neuroseg.storage.workspace import Workspace
from neuroseg.tables import NODES, Table, combined

_BEGIN, _LAST = ("min_z", "min_y", "min_x"), ("max_z", "max_y", "max_x")
_NODES = {name: NODES[name] for name in ("fragment", "voxel_count", *_BEGIN, *_LAST)}


@dataclass(frozen=True)
class Cut:
    """The segmentation at a threshold. `names` (uint64): the segment of each row of the nodes, 0 for none."""

    threshold: float
    min_size_voxels: int
    names: NDArray[np.uint64]
    segments: int
    largest_share: float

    @property
    def version(self) -> str:
        """The word that names this cut in the address of a layer."""
        return f"t{self.threshold!r}-m{self.min_size_voxels}"


class Tree:
    """The merge tree of a workspace. `fragments` are the fragments of the nodes, ascending, uint64."""

    def __init__(self, workspace: Workspace, small: str) -> None:
        nodes = read_nodes(workspace, _NODES)
        self.fragments, self._small = nodes["fragment"], small
        self._begins, self._lasts = (np.stack([nodes[name] for name in names]) for names in (_BEGIN, _LAST))
        self._rows = merge_rows(read_tree(workspace), nodes)

    def cut(self, threshold: float, min_size_voxels: int = 0, constraints: Constraints = NO_CONSTRAINTS) -> Cut:
        """Return the segmentation at a threshold. `constraints`: those of edits, rows of the nodes."""
        roots, voxels = self._rows.roots(threshold, min_size_voxels, self._small, constraints), self._rows.sizes
        known = roots >= 0
        names = np.zeros(len(roots), np.uint64)
        names[known] = self.fragments[roots[known]]
        sizes = np.bincount(roots[known], weights=voxels[known], minlength=1)
        total = max(1, int(voxels.sum()))
        return Cut(threshold, min_size_voxels, names, int(np.count_nonzero(sizes)), float(sizes.max(initial=0)) / total)

    def rows_of(self, fragments: NDArray[np.uint64]) -> NDArray[np.int32]:
        """Return the row of the nodes of each fragment, -1 for 0 and unknown fragments."""
        if not len(self.fragments):
            return np.full(fragments.shape, -1, np.int32)
        rows = np.minimum(np.searchsorted(self.fragments, fragments), len(self.fragments) - 1)
        return np.where(self.fragments[rows] == fragments, rows, -1).astype(np.int32)

    def boxes_of(self, rows: NDArray[np.integer]) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Return the first and the last voxel `(3, n)` (z, y, x) of the fragments of some rows."""
        return self._begins[:, rows], self._lasts[:, rows]

    def largest(self, names: NDArray[np.uint64], count: int) -> NDArray[np.uint64]:
        """Return the names of up to `count` segments with the most voxels. `names`: as those of a cut."""
        found, segments = np.unique(names, return_inverse=True)
        sizes = np.bincount(segments, weights=self._rows.sizes, minlength=len(found))
        order = np.argsort(-sizes, kind="stable")
        largest: NDArray[np.uint64] = found[order[found[order] > 0][:count]]
        return largest

    def extent(self) -> Roi | None:
        """Return the box around all fragments, in voxels. None if there are none."""
        if not len(self.fragments):
            return None
        begin, end = self._begins.min(1), self._lasts.max(1) + 1
        return Roi(begin.tolist(), (end - begin).tolist())

    def near(self, voxel: Sequence[float]) -> list[float]:
        """Return the middle of the box of the fragment whose box is nearest to a place in voxels."""
        middles = (self._begins.astype(np.float64) + self._lasts + 1) / 2
        found: list[float] = middles[:, ((middles - np.array(voxel)[:, None]) ** 2).sum(0).argmin()].tolist()
        return found

    def scores(self, cut: Cut, contingency: Table) -> dict[str, float]:
        """Return VOI split and merge in bits, from the contingency table of fragments and truth."""
        rows = self.rows_of(contingency["segment"])
        segments = np.where(rows >= 0, cut.names[rows], 0).astype(np.uint64)
        found: Any = scores_of(combined([{**contingency, "segment": segments}], CONTINGENCY))
        return {"voi_split": found.voi_split, "voi_merge": found.voi_merge}

"""Merge tree and threshold -> the segment of each fragment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroseg.agglomeration.ordering import index_type
from neuroseg.errors import unknown_name
from neuroseg.kernels import compiled
from neuroseg.tables import Allocate, Table

SMALL = ("merge", "drop")


@dataclass(frozen=True)
class Constraints:
    """Decisions of a person on pairs of fragments. Both arrays: `(n, 2)` int64, rows of the node table.

    The two fragments of a pair in `joined` are in one segment, also if they do not touch. Those of a pair in `split`
    are in different segments. No pair may be in `split` that the pairs in `joined` connect.
    """

    joined: NDArray[np.int64]
    split: NDArray[np.int64]


NO_CONSTRAINTS = Constraints(np.zeros((0, 2), np.int64), np.zeros((0, 2), np.int64))


def segment_lookup(
    tree: Table,
    nodes: Table,
    *,
    threshold: float,
    min_size_voxels: int = 0,
    small: str = "merge",
    constraints: Constraints = NO_CONSTRAINTS,
) -> Table:
    """Return the table (fragment, segment) by ascending fragment. Segments 1..N are sorted by their smallest fragment.

    All rows of the tree with a score below `threshold` are merged. A row merges the segments of its linked fragments,
    which touch. With `small = "merge"`, segments of fewer than `min_size_voxels` voxels are merged further along the
    tree, by ascending score, until they are large enough. Segments that are still too small become 0. With
    `small = "drop"`, all small segments become 0. `nodes` has the columns `fragment` (ascending, unique) and
    `voxel_count`. Raises InputError for another value of `small`.

    `constraints.joined` are merged first. A row is left out if it would merge the two fragments of a pair in
    `constraints.split`. All rows with lower scores have connected what they connect, so the pair is separated at the
    row with the least affinity between them. What a later row attaches goes to the side that it is linked with.
    """
    roots = merge_rows(tree, nodes).roots(threshold, min_size_voxels, small, constraints)
    return {"fragment": nodes["fragment"], "segment": numbered(roots)}


def numbered(roots: NDArray[Any], new: Allocate = np.empty) -> NDArray[np.uint64]:
    """Return the segment of each node, 1..N by ascending root, from the row of its root. 0 for a root of -1.

    The root is the smallest node of a segment. `new` allocates the array.
    """
    segments = new(len(roots), np.uint64)
    _number(roots, segments)
    return segments


class Regions:
    """A partition of the nodes that merges change. In the beginning, `constraints.joined` are merged.

    `sizes`: the voxels of each node. `min_size_voxels` and `small` as in `segment_lookup`. Raises InputError for an
    unknown treatment of small segments.
    """

    def __init__(
        self, sizes: NDArray[np.int64], min_size_voxels: int = 0, small: str = "merge",
        constraints: Constraints = NO_CONSTRAINTS, new: Allocate = np.empty,
    ) -> None:  # fmt: skip
        if small not in SMALL:
            raise unknown_name("treatment of small segments", small, SMALL)
        self._least, self._wanted = min_size_voxels, min_size_voxels if small == "merge" else 0
        self._split, self._totals = constraints.split, new(len(sizes), np.int64)
        self._parents, self._limited = new(len(sizes), index_type(len(sizes))), new(len(sizes), bool)
        self._totals[:], self._limited[:] = sizes, False
        self._parents[:] = np.arange(len(sizes), dtype=self._parents.dtype)
        _join_pairs(self._parents, self._totals, self._limited, constraints.joined, constraints.split)

    def merge(self, a: NDArray[np.int64], b: NDArray[np.int64], scores: NDArray[np.float64], threshold: float) -> None:
        """Apply rows of a merge tree by ascending score: the linked nodes, and the scores.

        Rows of groups that share no node may be applied one group after the other.
        """
        state = (self._parents, self._totals, self._limited)
        _merge(a, b, scores, state, float(threshold), self._wanted, self._split)

    def roots(self) -> NDArray[Any]:
        """Return for each node the row of the smallest node of its segment, -1 without a segment.

        No rows can be applied after that.
        """
        _replace_by_roots(self._parents, self._totals, self._least)
        return self._parents


@dataclass(frozen=True)
class MergeRows:
    """A merge tree whose fragments are rows of the node table: `a`, `b` (int64), linked by each row, `scores`, `sizes`.

    Many thresholds can be applied to it, because the rows are looked up once.
    """

    a: NDArray[np.int64]
    b: NDArray[np.int64]
    scores: NDArray[np.float64]
    sizes: NDArray[np.int64]

    def roots(
        self,
        threshold: float,
        min_size_voxels: int = 0,
        small: str = "merge",
        constraints: Constraints = NO_CONSTRAINTS,
    ) -> NDArray[Any]:
        """Return for each node the row of the smallest fragment of its segment, -1 without a segment.

        The arguments and errors are those of `segment_lookup`.
        """
        regions = Regions(self.sizes, min_size_voxels, small, constraints)
        regions.merge(self.a, self.b, self.scores, threshold)
        return regions.roots()


def merge_rows(tree: Table, nodes: Table) -> MergeRows:
    """Return a merge tree with the rows of its fragments. `nodes` has ascending, unique fragments."""
    ids = nodes["fragment"]
    return MergeRows(
        np.searchsorted(ids, tree["link_u"]).astype(np.int64),
        np.searchsorted(ids, tree["link_v"]).astype(np.int64),
        tree["score"].astype(np.float64),
        nodes["voxel_count"].astype(np.int64),
    )


@compiled
def root(parents, node):  # type: ignore[no-untyped-def]
    """Root of a node in the forest `parents`. Paths are halved on the way."""
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = parents[node]
    return node


@compiled
def _join_pairs(parents, totals, is_limited, joined, split):  # type: ignore[no-untyped-def]
    """Merge the joined pairs, and note which roots have a node of a split pair."""
    for pair in range(len(joined)):
        _join(parents, totals, root(parents, joined[pair, 0]), root(parents, joined[pair, 1]))
    for pair in range(len(split)):
        is_limited[root(parents, split[pair, 0])] = is_limited[root(parents, split[pair, 1])] = True


@compiled
def _merge(a, b, scores, state, threshold, wanted_size, split):  # type: ignore[no-untyped-def]
    """Apply rows of a tree. state: parents, sizes of the segments at their roots, and whether splits limit a root."""
    parents, totals, is_limited = state
    for row in range(len(a)):
        if scores[row] >= threshold and wanted_size == 0:
            break
        one, other = root(parents, a[row]), root(parents, b[row])
        if one == other or (scores[row] >= threshold and min(totals[one], totals[other]) >= wanted_size):
            continue
        if is_limited[one] and is_limited[other] and _are_split(parents, split, one, other):
            continue
        limited = is_limited[one] or is_limited[other]
        is_limited[_join(parents, totals, one, other)] = limited


@compiled
def _replace_by_roots(parents, totals, least):  # type: ignore[no-untyped-def]
    """Replace the parent of every node by its root, the smallest node of its segment. -1 for small segments."""
    for node in range(len(parents)):
        # The parent is smaller, so it is the root, or -1.
        if parents[node] != node:
            parents[node] = parents[parents[node]]
        elif totals[node] < least:
            parents[node] = -1


@compiled
def _number(roots, segments):  # type: ignore[no-untyped-def]
    """Write the number of each node's segment: that of its root, which is not after it."""
    count = 0
    for node in range(len(roots)):
        if roots[node] == node:
            count += 1
            segments[node] = count
        else:
            segments[node] = 0 if roots[node] < 0 else segments[roots[node]]


@compiled
def _join(parents, totals, one, other):  # type: ignore[no-untyped-def]
    """Join two roots. Return the smaller one, which is the root of both."""
    if one == other:
        return one
    low, high = min(one, other), max(one, other)
    parents[high] = low
    totals[low] += totals[high]
    return low


@compiled
def _are_split(parents, split, one, other):  # type: ignore[no-untyped-def]
    """Whether a split pair has one fragment at each of two roots."""
    for pair in range(len(split)):
        first, second = root(parents, split[pair, 0]), root(parents, split[pair, 1])
        if (first == one and second == other) or (first == other and second == one):
            return True
    return False

"""Merge tree and threshold -> the segment of each fragment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroseg.errors import unknown_name
from neuroseg.kernels import compiled
from neuroseg.tables import Table, looked_up

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
    kept = np.unique(roots[roots >= 0])
    segments = np.searchsorted(kept, roots).astype(np.uint64) + np.uint64(1)
    segments[roots < 0] = 0
    return {"fragment": nodes["fragment"], "segment": segments}


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
    ) -> NDArray[np.int64]:
        """Return for each node the row of the smallest fragment of its segment, -1 without a segment.

        The arguments and errors are those of `segment_lookup`.
        """
        if small not in SMALL:
            raise unknown_name("treatment of small segments", small, SMALL)
        wanted_size = min_size_voxels if small == "merge" else 0
        pairs = (constraints.joined, constraints.split)
        roots, totals = _partition(self.a, self.b, self.scores, self.sizes, float(threshold), wanted_size, pairs)
        found: NDArray[np.int64] = np.where(totals[roots] >= min_size_voxels, roots, -1)
        return found


def merge_rows(tree: Table, nodes: Table) -> MergeRows:
    """Return a merge tree with the rows of its fragments. `nodes` has ascending, unique fragments."""
    ids = nodes["fragment"]
    return MergeRows(
        np.searchsorted(ids, tree["link_u"]).astype(np.int64),
        np.searchsorted(ids, tree["link_v"]).astype(np.int64),
        tree["score"].astype(np.float64),
        nodes["voxel_count"].astype(np.int64),
    )


def segment_sizes(nodes: Table, lookup: Table) -> NDArray[np.int64]:
    """Return the number of voxels of segments 0, 1, ... N. 0 contains the fragments without a segment."""
    segments = looked_up(nodes["fragment"], lookup)
    sizes = np.zeros(int(segments.max(initial=0)) + 1, np.int64)
    np.add.at(sizes, segments.astype(np.int64), nodes["voxel_count"].astype(np.int64))
    return sizes


@compiled
def root(parents, node):  # type: ignore[no-untyped-def]
    """Root of a node in the forest `parents`. Paths are halved on the way."""
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = parents[node]
    return node


@compiled
def _partition(a, b, scores, sizes, threshold, wanted_size, pairs):  # type: ignore[no-untyped-def]
    """Root of every fragment (the smallest of its segment), and the size of the segment at each root."""
    joined, split = pairs
    parents = np.arange(len(sizes))
    totals = sizes.copy()
    for pair in range(len(joined)):
        _join(parents, totals, root(parents, joined[pair, 0]), root(parents, joined[pair, 1]))
    # Whether the segment at a root contains a fragment of a split pair.
    is_limited = np.zeros(len(sizes), np.bool_)
    for pair in range(len(split)):
        is_limited[root(parents, split[pair, 0])] = is_limited[root(parents, split[pair, 1])] = True
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
    roots = np.empty(len(sizes), np.int64)
    for node in range(len(sizes)):
        roots[node] = root(parents, node)
    return roots, totals


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

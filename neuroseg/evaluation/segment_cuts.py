"""Merges and contacts of fragments -> the two sides of each merge in the finished segment, and their contact.

Each merge links two touching fragments. All links of a segment form a tree. Without one link, the segment falls into
two sides. If a merge joined two neurons, its sides may be large and touch at few voxels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuroseg.kernels import compiled


class SegmentCuts:
    """The sides of the links of all segments.

    `u`, `v` `(rows,)` int64: the fragments of each link, as indices in `sizes`. The links contain no cycle. `sizes`
    `(n,)` int64: voxels of each fragment. `one` and `other` `(rows,)` int64: voxels on the side of u and on that of v.
    """

    def __init__(self, u: NDArray[np.int64], v: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
        self._order, self._parents, self._depths = _rooted(u, v, len(sizes))
        self._heads = _heads(self._order, self._parents)
        # The end of each link that is farther from the root.
        self._lower = np.where(self._parents[u] == v, u, v)
        sums = _sums_below(sizes, self._order, self._parents)
        whole = sums[self._roots(u)]
        below = sums[self._lower]
        self.one = np.where(self._lower == u, below, whole - below)
        self.other = whole - self.one

    def crossings(self, u: NDArray[np.int64], v: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return a summary `(n,)` int64 of an edge table, for `contacts`. Summaries of several tables can be added.

        `u`, `v`: the fragments of each edge, as indices. `counts`: its voxel pairs. Edges between segments are ignored.
        """
        crossings: NDArray[np.int64] = _crossings(self._parents, self._depths, self._heads, u, v, counts)
        return crossings

    def contacts(self, crossings: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number `(rows,)` int64 of voxel pairs between the two sides of each link."""
        contacts: NDArray[np.int64] = _sums_below(crossings, self._order, self._parents)[self._lower]
        return contacts

    def _roots(self, nodes: NDArray[np.int64]) -> NDArray[np.int64]:
        roots = np.arange(len(self._parents))
        _copy_down(roots, self._order, self._parents)
        return roots[nodes]


@compiled
def _rooted(u, v, count):  # type: ignore[no-untyped-def]
    """Order of all nodes (parents first), and parent (-1: root) and depth of each node."""
    starts = np.zeros(count + 1, np.int64)
    for row in range(len(u)):
        starts[u[row] + 1] += 1
        starts[v[row] + 1] += 1
    starts = np.cumsum(starts)
    filled, neighbours = starts[:-1].copy(), np.empty(2 * len(u), np.int64)
    for row in range(len(u)):
        for one, other in ((u[row], v[row]), (v[row], u[row])):
            neighbours[filled[one]] = other
            filled[one] += 1
    order, parents, depths = np.empty(count, np.int64), np.full(count, -1, np.int64), np.full(count, -1, np.int64)
    end = 0
    for root in range(count):
        if depths[root] >= 0:
            continue
        depths[root], order[end] = 0, root
        at = end
        end += 1
        while at < end:
            node = order[at]
            at += 1
            for neighbour in neighbours[starts[node] : starts[node + 1]]:
                if depths[neighbour] < 0:
                    parents[neighbour], depths[neighbour] = node, depths[node] + 1
                    order[end] = neighbour
                    end += 1
    return order, parents, depths


@compiled
def _heads(order, parents):  # type: ignore[no-untyped-def]
    """The first node of the chain of each node. A chain follows the child with the most nodes below it.

    So a path to the root crosses few chains: their number is at most the logarithm of the number of nodes.
    """
    below, largest = np.ones(len(order), np.int64), np.full(len(order), -1, np.int64)
    for node in order[::-1]:
        parent = parents[node]
        if parent >= 0:
            below[parent] += below[node]
            if largest[parent] < 0 or below[largest[parent]] < below[node]:
                largest[parent] = node
    heads = np.empty(len(order), np.int64)
    for node in order:
        parent = parents[node]
        heads[node] = heads[parent] if parent >= 0 and largest[parent] == node else node
    return heads


@compiled
def _sums_below(values, order, parents):  # type: ignore[no-untyped-def]
    """Sum of the values of each node and all nodes below it."""
    sums = values.copy()
    for node in order[::-1]:
        if parents[node] >= 0:
            sums[parents[node]] += sums[node]
    return sums


@compiled
def _copy_down(values, order, parents):  # type: ignore[no-untyped-def]
    """Replace the value of each node by that of its root."""
    for node in order:
        if parents[node] >= 0:
            values[node] = values[parents[node]]


@compiled
def _crossings(parents, depths, heads, u, v, counts):  # type: ignore[no-untyped-def]
    """Add the count of each edge to its two ends, and subtract it twice at their lowest common parent.

    The sum below a node then counts the edges with one end below it.
    """
    out = np.zeros(len(parents), np.int64)
    for edge in range(len(u)):
        one, other = u[edge], v[edge]
        while one >= 0 and other >= 0 and heads[one] != heads[other]:
            if depths[heads[one]] > depths[heads[other]]:
                one = parents[heads[one]]
            else:
                other = parents[heads[other]]
        if one >= 0 and other >= 0:
            out[u[edge]] += counts[edge]
            out[v[edge]] += counts[edge]
            out[one if depths[one] < depths[other] else other] -= 2 * counts[edge]
    return out

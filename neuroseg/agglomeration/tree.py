"""Edge table -> merge tree, by repeatedly merging the edge with the smallest (score, key).

The key of an edge is the largest pair of fragments among the edges from which it was merged. With this key, any valid
order of merges gives the same tree, also for equal scores. Edges must be sorted by (u, v), so that the row of a pair is
its key.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroseg.agglomeration.heap import drop_least, push
from neuroseg.agglomeration.scorings import MEAN, Scoring
from neuroseg.kernels import compiled
from neuroseg.tables import TREE, Table, empty

# States of a slot without an edge in the hash table of edges.
_FREE, _REMOVED = -1, -2


def merge_tree(edges: Table, bins: Table, scoring: Scoring) -> Table:
    """Return the merge tree: rows (a, b, score, u, v) in merge order, scores ascending.

    `edges` has the columns of tables.EDGES, sorted by (u, v), with unique pairs. `bins` has the columns of tables.BINS.
    Only scorings of every contact need it, complete and sorted.

    a < b: the smallest fragments of the two merged regions. score: 1 - statistic, in [0, 1]. u < v: the largest pair of
    fragments through which the regions touch. Without edges the tree is empty.
    """
    if not len(edges["u"]):
        return empty(TREE)
    ids = np.unique(np.concatenate([edges["u"], edges["v"]]))
    ends = np.stack([np.searchsorted(ids, edges["u"]), np.searchsorted(ids, edges["v"])], axis=1).astype(np.int64)
    a, b, scores, keys = _merge_all(ends, len(ids), _statistics(edges, bins, scoring), scoring.percent)
    return {"a": ids[a], "b": ids[b], "score": scores, "u": edges["u"][keys], "v": edges["v"][keys]}


def edge_scores(edges: Table, bins: Table, scoring: Scoring) -> NDArray[np.float64]:
    """Return the score `(n,)` of each edge before any merge, 1 - statistic. Tables as in `merge_tree`."""
    statistics = _statistics(edges, bins, scoring)
    scores: NDArray[np.float64] = _scores(len(edges["u"]), statistics, scoring.percent)
    return scores


def _statistics(edges: Table, bins: Table, scoring: Scoring) -> tuple[NDArray[Any], ...]:
    """Return the statistics of all edges for compiled code, see `_linked`."""
    starts, values, counts = _initial_entries(edges, bins, scoring)
    sums, contacts = edges["affinity_sum"].astype(np.float64), edges["contact_count"].astype(np.int64)
    statistics: tuple[NDArray[Any], ...] = _linked(sums, contacts, starts, values, counts, scoring.percent)
    return statistics


def _initial_entries(
    edges: Table, bins: Table, scoring: Scoring
) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
    """Return the index of the first histogram entry of each edge, and bin (ascending) and count of all entries."""
    count = len(edges["u"])
    if scoring.percent == MEAN:
        return np.zeros(1, np.int64), np.zeros(0, np.uint8), np.zeros(0, np.int64)
    if not scoring.every_contact:
        return np.arange(count + 1), edges["affinity_max"].astype(np.uint8), np.ones(count, np.int64)
    new = np.ones(len(bins["u"]), bool)
    new[1:] = (bins["u"][1:] != bins["u"][:-1]) | (bins["v"][1:] != bins["v"][:-1])
    starts = np.flatnonzero(new)
    assert len(starts) == count, "every edge has a histogram"
    return np.append(starts, len(new)), bins["bin"].astype(np.uint8), bins["count"].astype(np.int64)


@compiled
def _linked(sums, contacts, starts, values, counts, percent):  # type: ignore[no-untyped-def]
    """The statistics of all edges: (sums, contacts, heads, nexts, values, counts).

    The mean uses sums and contacts. A quantile uses the histogram of each edge, a linked list of entries (ascending
    bins) that starts at heads[edge]. Then contacts is the number of values in the histogram.
    """
    heads = np.zeros(len(sums), np.int64)
    nexts = np.full(len(values), -1, np.int64)
    if percent >= 0:
        for edge in range(len(sums)):
            heads[edge] = starts[edge]
            contacts[edge] = 0
            for at in range(starts[edge], starts[edge + 1]):
                contacts[edge] += counts[at]
                if at + 1 < starts[edge + 1]:
                    nexts[at] = at + 1
    return sums, contacts, heads, nexts, values, counts


@compiled
def _score(edge, statistics, percent):  # type: ignore[no-untyped-def]
    """One minus the mean affinity, or one minus HistogramQuantileAffinity of waterz.

    The quantile is the value (bin + .5) / 256 with rank floor(Q n / 100) + 1 of n values.
    """
    sums, contacts, heads, nexts, values, counts = statistics
    if percent < 0:
        return 1.0 - sums[edge] / (255.0 * contacts[edge])
    pivot = percent * contacts[edge] // 100 + 1
    at = heads[edge]
    seen = counts[at]
    while seen < pivot and nexts[at] >= 0:
        at = nexts[at]
        seen += counts[at]
    return 1.0 - (values[at] + 0.5) / 256.0


@compiled
def _scores(edges, statistics, percent):  # type: ignore[no-untyped-def]
    out = np.empty(edges, np.float64)
    for edge in range(edges):
        out[edge] = _score(edge, statistics, percent)
    return out


@compiled
def _add(edge, other, statistics, percent):  # type: ignore[no-untyped-def]
    """Add the statistics of edge `other` to those of `edge`."""
    sums, contacts, heads, nexts, values, counts = statistics
    sums[edge] += sums[other]
    contacts[edge] += contacts[other]
    if percent >= 0:
        heads[edge] = _merge_histograms(heads[edge], heads[other], nexts, values, counts)


@compiled
def _merge_histograms(one, other, nexts, values, counts):  # type: ignore[no-untyped-def]
    """Merge two linked histograms with ascending bins, and add counts of equal bins. Return the new head."""
    head, tail = np.int64(-1), np.int64(-1)
    while one >= 0 or other >= 0:
        if other < 0 or (one >= 0 and values[one] <= values[other]):
            taken = one
            one = nexts[one]
        else:
            taken = other
            other = nexts[other]
        if tail >= 0 and values[tail] == values[taken]:
            counts[tail] += counts[taken]
        else:
            if tail >= 0:
                nexts[tail] = taken
            else:
                head = taken
            tail = taken
            nexts[tail] = -1
    return head


@compiled
def _slot(table, ends, a, b):  # type: ignore[no-untyped-def]
    """Slot of the edge between regions a and b in a hash table with open addressing, or of a free slot (-1)."""
    low, high = np.uint64(min(a, b)), np.uint64(max(a, b))
    mask = np.uint64(len(table) - 1)
    mixed = (low * np.uint64(0x9E3779B97F4A7C15)) ^ (high * np.uint64(0xC2B2AE3D27D4EB4F))
    at = (mixed ^ (mixed >> np.uint64(29))) & mask
    while table[at] != _FREE:
        edge = table[at]
        if edge >= 0 and ((ends[edge, 0] == a and ends[edge, 1] == b) or (ends[edge, 0] == b and ends[edge, 1] == a)):
            return np.int64(at)
        at = (at + np.uint64(1)) & mask
    return np.int64(at)


@compiled
def _table_of(ends, alive):  # type: ignore[no-untyped-def]
    """A new hash table of the existing edges, at most a quarter full."""
    size = 16
    while size < 4 * len(ends):
        size *= 2
    table = np.full(size, _FREE, np.int64)
    for edge in range(len(ends)):
        if alive[edge]:
            table[_slot(table, ends, ends[edge, 0], ends[edge, 1])] = edge
    return table


@compiled
def _append(half, region, lists):  # type: ignore[no-untyped-def]
    """Append a half-edge to the list of a region. lists: next of each half-edge; first, last and number per region."""
    nexts, firsts, lasts, numbers = lists
    nexts[half] = -1
    if firsts[region] < 0:
        firsts[region] = half
    else:
        nexts[lasts[region]] = half
    lasts[region] = half
    numbers[region] += 1


@compiled
def _half_edges(ends, regions):  # type: ignore[no-untyped-def]
    """Lists of half-edges by region: 2 e if the region is the first end of edge e, 2 e + 1 if it is the second."""
    lists = (
        np.full(2 * len(ends), -1, np.int64),
        np.full(regions, -1, np.int64),
        np.full(regions, -1, np.int64),
        np.zeros(regions, np.int64),
    )
    for half in range(2 * len(ends)):
        _append(half, ends[half >> 1, half & 1], lists)
    return lists


@compiled
def _queue(ends, statistics, percent):  # type: ignore[no-untyped-def]
    """The heap of all edges, with space for one more entry per edge."""
    room = 2 * len(ends)
    heap = (np.empty(room, np.float64), np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int32))
    for edge in range(len(ends)):
        push(*heap, edge, _score(edge, statistics, percent), edge, edge, 0)
    return heap


@compiled
def _merge_all(ends, regions, statistics, percent):  # type: ignore[no-untyped-def]
    """Greedy merging with lazy deletion: an entry of the heap is valid if its version equals that of the edge.

    A merge moves the half-edges of the region with fewer half-edges to the other. `smallest`: the smallest fragment of
    each region, its name in the tree. `keys`: the largest row among the edges from which an edge was merged.
    """
    edges = len(ends)
    alive, versions, keys = np.ones(edges, np.bool_), np.zeros(edges, np.int32), np.arange(edges)
    lists, smallest = _half_edges(ends, regions), np.arange(regions)
    table, filled = _table_of(ends, alive), edges
    heap, size = _queue(ends, statistics, percent), edges
    out_a, out_b, out_keys = np.empty(regions, np.int64), np.empty(regions, np.int64), np.empty(regions, np.int64)
    out_scores = np.empty(regions, np.float64)
    merges = 0
    while size > 0:
        score, edge, version = heap[0][0], heap[2][0], heap[3][0]
        drop_least(*heap, size)
        size -= 1
        if not alive[edge] or versions[edge] != version:
            continue
        kept, gone = ends[edge, 0], ends[edge, 1]
        if lists[3][kept] < lists[3][gone]:
            kept, gone = gone, kept
        one, other = smallest[kept], smallest[gone]
        out_a[merges], out_b[merges] = min(one, other), max(one, other)
        out_scores[merges], out_keys[merges] = score, keys[edge]
        merges += 1
        smallest[kept] = min(one, other)
        table[_slot(table, ends, kept, gone)] = _REMOVED
        alive[edge] = False
        half = lists[1][gone]
        while half >= 0:
            after = lists[0][half]
            if alive[half >> 1]:
                joined = _move(half, kept, gone, ends, table, alive, keys, lists, statistics, percent)
                if joined >= 0:
                    versions[joined] += 1
                    push(*heap, size, _score(joined, statistics, percent), keys[joined], joined, versions[joined])
                    size += 1
                else:
                    filled += 1
                    if 2 * filled > len(table):
                        table, filled = _table_of(ends, alive), edges
            half = after
    return out_a[:merges], out_b[:merges], out_scores[:merges], out_keys[:merges]


@compiled
def _move(half, kept, gone, ends, table, alive, keys, lists, statistics, percent):  # type: ignore[no-untyped-def]
    """Move an edge of region `gone` to `kept`. Return the edge of `kept` with which it was merged, or -1."""
    edge, side = half >> 1, half & 1
    other = ends[edge, 1 - side]
    table[_slot(table, ends, gone, other)] = _REMOVED
    at = _slot(table, ends, kept, other)
    partner = table[at]
    if partner >= 0:
        alive[edge] = False
        keys[partner] = max(keys[partner], keys[edge])
        _add(partner, edge, statistics, percent)
        return partner
    ends[edge, side] = kept
    table[at] = edge
    _append(half, kept, lists)
    return np.int64(-1)

"""Edge table -> merge tree, by merging the least edge in (score, key) until none is left.

The key of an edge is the largest fragment pair among the edges it was merged from, which makes the tree one and the
same for any valid order of merges, ties included. Edges must be sorted by (u, v): then a pair's row is its key.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from neuroseg.agglomeration.heap import doubled, drop_least, push
from neuroseg.agglomeration.scorings import MEAN, Scoring
from neuroseg.tables import TREE, Table, empty


def merge_tree(edges: Table, bins: Table, scoring: Scoring) -> Table:
    """Return the merge tree: rows (a, b, score, u, v) in merge order, scores ascending.

    `edges` has the columns of tables.EDGES, sorted by (u, v), each pair once; `bins` those of tables.BINS, needed
    (complete, sorted) only by scorings of every contact. a < b are the smallest fragments of the two regions that
    merge; score = 1 - statistic, in [0, 1]; u < v are the largest pair of fragments through which they touch. No edges
    give an empty tree.
    """
    if not len(edges["u"]):
        return empty(TREE)
    ids = np.unique(np.concatenate([edges["u"], edges["v"]]))
    first = np.searchsorted(ids, edges["u"]).astype(np.int64)
    second = np.searchsorted(ids, edges["v"]).astype(np.int64)
    heads, values, counts = _initial_entries(edges, bins, scoring)
    a, b, scores, keys = _merge_all(
        first,
        second,
        len(ids),
        edges["affinity_sum"].astype(np.float64),
        edges["contact_count"].astype(np.int64),
        heads,
        values,
        counts,
        scoring.percent,
    )
    return {"a": ids[a], "b": ids[b], "score": scores, "u": edges["u"][keys], "v": edges["v"][keys]}


def _initial_entries(
    edges: Table, bins: Table, scoring: Scoring
) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
    """Return, per edge, where its histogram entries begin, and all entries (bin ascending) with their counts."""
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


@numba.njit(cache=True, nogil=True)
def _quantile_score(edge, head, nexts, values, counts, contacts, percent):  # type: ignore[no-untyped-def]
    """One minus waterz' HistogramQuantileAffinity: the entry of rank floor(Q n / 100) + 1, value (bin + .5) / 256."""
    pivot = percent * contacts[edge] // 100 + 1
    at = head[edge]
    seen = counts[at]
    while seen < pivot and nexts[at] >= 0:
        at = nexts[at]
        seen += counts[at]
    return 1.0 - (values[at] + 0.5) / 256.0


@numba.njit(cache=True, nogil=True)
def _joined(one, other, nexts, values, counts):  # type: ignore[no-untyped-def]
    """Merge two linked histograms, bins ascending, adding counts of equal bins; returns the head."""
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
        # `taken` was unlinked from its list before; what follows it there is still reachable by `one` or `other`.
    return head


@numba.njit(cache=True, nogil=True)
def _edge_slot(table, first, second, a, b):  # type: ignore[no-untyped-def]
    """Slot of the edge between regions a and b in an open-addressing table of edges, or a free one (-1)."""
    low, high = np.uint64(min(a, b)), np.uint64(max(a, b))
    mask = np.uint64(len(table) - 1)
    mixed = (low * np.uint64(0x9E3779B97F4A7C15)) ^ (high * np.uint64(0xC2B2AE3D27D4EB4F))
    at = (mixed ^ (mixed >> np.uint64(29))) & mask
    while table[at] != -1:
        edge = table[at]
        if edge >= 0 and (
            (first[edge] == a and second[edge] == b) or (first[edge] == b and second[edge] == a)
        ):
            return np.int64(at)
        at = (at + np.uint64(1)) & mask
    return np.int64(at)


@numba.njit(cache=True, nogil=True)
def _rebuilt(size, first, second, alive):  # type: ignore[no-untyped-def]
    """A fresh table of the edges alive."""
    table = np.full(size, -1, np.int64)
    for edge in range(len(first)):
        if alive[edge]:
            table[_edge_slot(table, first, second, first[edge], second[edge])] = edge
    return table


@numba.njit(cache=True, nogil=True)
def _merge_all(first, second, regions, sums, contacts, starts, values, counts, percent):  # type: ignore[no-untyped-def]
    """Greedy merging with lazy deletion: an entry of the heap counts only while its version is the edge's.

    Each region keeps a linked list of half-edges (2 e at its first end, 2 e + 1 at its second); on a merge the region
    with fewer half-edges moves to the other. `smallest` is the region's smallest fragment, which names it in the tree.
    """
    edges = len(first)
    alive = np.ones(edges, np.bool_)
    version = np.zeros(edges, np.int32)
    key = np.arange(edges)
    nexts = np.full(len(values), -1, np.int64)
    head = np.zeros(edges if percent >= 0 else 0, np.int64)
    if percent >= 0:
        for edge in range(edges):
            head[edge] = starts[edge]
            total = 0
            for at in range(starts[edge], starts[edge + 1]):
                total += counts[at]
                if at + 1 < starts[edge + 1]:
                    nexts[at] = at + 1
            contacts[edge] = total
    half_next = np.full(2 * edges, -1, np.int64)
    half_head = np.full(regions, -1, np.int64)
    half_tail = np.full(regions, -1, np.int64)
    degree = np.zeros(regions, np.int64)
    for half in range(2 * edges):
        region = second[half >> 1] if half & 1 else first[half >> 1]
        if half_head[region] < 0:
            half_head[region] = half
        else:
            half_next[half_tail[region]] = half
        half_tail[region] = half
        degree[region] += 1
    smallest = np.arange(regions)
    slots = 16
    while slots < 4 * edges:
        slots *= 2
    table = _rebuilt(slots, first, second, alive)
    filled = edges
    heap_scores = np.empty(edges + 16, np.float64)
    heap_keys = np.empty(edges + 16, np.int64)
    heap_edges = np.empty(edges + 16, np.int64)
    heap_versions = np.empty(edges + 16, np.int32)
    size = 0
    for edge in range(edges):
        if percent >= 0:
            score = _quantile_score(edge, head, nexts, values, counts, contacts, percent)
        else:
            score = 1.0 - sums[edge] / (255.0 * contacts[edge])
        push(heap_scores, heap_keys, heap_edges, heap_versions, size, score, key[edge], edge, version[edge])
        size += 1
    out_a = np.empty(regions, np.int64)
    out_b = np.empty(regions, np.int64)
    out_scores = np.empty(regions, np.float64)
    out_keys = np.empty(regions, np.int64)
    merges = 0
    while size > 0:
        score, edge, stamp = heap_scores[0], heap_edges[0], heap_versions[0]
        drop_least(heap_scores, heap_keys, heap_edges, heap_versions, size)
        size -= 1
        if not alive[edge] or version[edge] != stamp:
            continue
        kept, gone = first[edge], second[edge]
        if degree[kept] < degree[gone]:
            kept, gone = gone, kept
        out_a[merges] = min(smallest[kept], smallest[gone])
        out_b[merges] = max(smallest[kept], smallest[gone])
        out_scores[merges] = score
        out_keys[merges] = key[edge]
        merges += 1
        smallest[kept] = min(smallest[kept], smallest[gone])
        table[_edge_slot(table, first, second, kept, gone)] = -2
        alive[edge] = False
        half = half_head[gone]
        while half >= 0:
            after = half_next[half]
            moved = half >> 1
            if alive[moved]:
                other = first[moved] if half & 1 else second[moved]
                table[_edge_slot(table, first, second, gone, other)] = -2
                at = _edge_slot(table, first, second, kept, other)
                partner = table[at]
                if partner >= 0:
                    alive[moved] = False
                    sums[partner] += sums[moved]
                    contacts[partner] += contacts[moved]
                    key[partner] = max(key[partner], key[moved])
                    version[partner] += 1
                    if percent >= 0:
                        head[partner] = _joined(head[partner], head[moved], nexts, values, counts)
                        joint = _quantile_score(partner, head, nexts, values, counts, contacts, percent)
                    else:
                        joint = 1.0 - sums[partner] / (255.0 * contacts[partner])
                    if size == len(heap_scores):
                        heap_scores, heap_keys = doubled(heap_scores), doubled(heap_keys)
                        heap_edges, heap_versions = doubled(heap_edges), doubled(heap_versions)
                    push(
                        heap_scores, heap_keys, heap_edges, heap_versions, size,
                        joint, key[partner], partner, version[partner],
                    )
                    size += 1
                else:
                    if half & 1:
                        second[moved] = kept
                    else:
                        first[moved] = kept
                    table[at] = moved
                    filled += 1
                    half_next[half] = -1
                    if half_head[kept] < 0:
                        half_head[kept] = half
                    else:
                        half_next[half_tail[kept]] = half
                    half_tail[kept] = half
                    degree[kept] += 1
                    if 2 * filled > slots:
                        table = _rebuilt(slots, first, second, alive)
                        filled = edges
            half = after
        degree[gone] = 0
    return out_a[:merges], out_b[:merges], out_scores[:merges], out_keys[:merges]

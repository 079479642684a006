"""Edges between regions, and their statistics -> all merges, the least (score, key) first.

    edges sorted by score   \
                             >  the least valid edge: merge its regions, add up edges that join the same regions
    heap of changed edges   /

Most edges are merged or added to another one before they change. They need no place in a heap: a sorted list is enough.
An edge that has changed gets a new version. An entry of the list or the heap with an older one is skipped.

A region may be open: it has contacts that are not in the table. Then nobody knows its least edge, so it merges with
none. A region whose least edge joins it to an open one must wait for that one, so it merges with none from then on.
"""

from __future__ import annotations

import numpy as np

from neuroseg.agglomeration.edge_statistics import add_to, score_of
from neuroseg.agglomeration.heap import drop_least, empty_heap, grown, push
from neuroseg.kernels import compiled

_FREE = -1  # a slot without an edge in the hash table of edges
_GONE = -1  # the version of an edge that was merged, or added to another one


@compiled
def all_merges(edges, is_open, order, statistics, percent):  # type: ignore[no-untyped-def]
    """The merges in their order, and the edges that are left.

    `edges`: ends `(n, 2)` (the regions of each edge), keys and links, all changed. `is_open`: for each region, changed.
    `order`: the edges sorted by (score, key). `statistics` is changed. Of several edges that are added up, the largest
    key and the largest link stay.

    A merge has the smaller and the larger region, score, key, and link. Each is an array with one value for each merge.
    """
    ends, keys, links = edges
    merges, at, size, regions = 0, 0, 0, len(is_open)
    versions = np.zeros(len(ends), ends.dtype)
    smallest, lists, heap = np.arange(regions).astype(ends.dtype), _half_edges(ends, regions), empty_heap(ends)
    table, filled = _table_of(ends, versions)
    out_a, out_b = np.empty(regions, ends.dtype), np.empty(regions, ends.dtype)
    out_scores, out_keys = np.empty(regions, np.float64), np.empty(regions, ends.dtype)
    out_links = np.empty(regions, ends.dtype)
    while True:
        at, size = _skip_changed(order, at, heap, size, versions)
        if at == len(ends) and size == 0:
            break
        if size == 0 or (at < len(ends) and _is_before(order[at], heap, keys, statistics, percent)):
            edge = order[at]
            at += 1
        else:
            edge = heap[2][0]
            drop_least(heap, size)
            size -= 1
        kept, gone = ends[edge, 0], ends[edge, 1]
        if is_open[kept] or is_open[gone]:
            is_open[kept] = is_open[gone] = True
            continue
        # The shorter list is moved.
        if lists[3][kept] < lists[3][gone]:
            kept, gone = gone, kept
        one, other = smallest[kept], smallest[gone]
        out_a[merges], out_b[merges] = min(one, other), max(one, other)
        out_scores[merges] = score_of(edge, statistics, percent)
        out_keys[merges], out_links[merges] = keys[edge], links[edge]
        merges += 1
        smallest[kept] = min(one, other)
        versions[edge] = _GONE
        while size + lists[3][gone] > len(heap[0]):
            heap = grown(heap)
        if 2 * (filled + lists[3][gone]) > len(table):
            table, filled = _table_of(ends, versions)
        size, filled = _move_edges(kept, gone, edges, table, filled, versions, lists, heap, size, statistics, percent)
    left = np.flatnonzero(versions != _GONE)
    for edge in left:
        ends[edge, 0], ends[edge, 1] = smallest[ends[edge, 0]], smallest[ends[edge, 1]]
    return (out_a[:merges], out_b[:merges], out_scores[:merges], out_keys[:merges], out_links[:merges]), left


@compiled
def _skip_changed(order, at, heap, size, versions):  # type: ignore[no-untyped-def]
    """The place in the list, and the size of the heap, without leading entries of edges that have changed since."""
    while at < len(order) and versions[order[at]] != 0:
        at += 1
    while size > 0 and heap[3][0] != versions[heap[2][0]]:
        drop_least(heap, size)
        size -= 1
    return at, size


@compiled
def _is_before(edge, heap, keys, statistics, percent):  # type: ignore[no-untyped-def]
    """Whether an edge is less than the first one of the heap."""
    score = score_of(edge, statistics, percent)
    return score < heap[0][0] or (score == heap[0][0] and keys[edge] < heap[1][0])


@compiled
def _move_edges(kept, gone, edges, table, filled, versions, lists, heap, size, statistics, percent):  # type: ignore[no-untyped-def]
    """Move the edges of a region to `kept`, or add them to those of `kept`. Return size of heap and entries of table.

    The old slot of an edge stays: nobody looks for an edge of a region that is gone.
    """
    ends, keys, links = edges
    half = lists[1][gone]
    while half >= 0:
        after, edge, side = lists[0][half], half >> 1, half & 1
        if versions[edge] != _GONE:
            at = _slot(table, ends, kept, ends[edge, 1 - side])
            partner = table[at]
            if partner >= 0:
                versions[edge] = _GONE
                versions[partner] += 1
                keys[partner] = max(keys[partner], keys[edge])
                links[partner] = max(links[partner], links[edge])
                add_to(partner, edge, statistics, percent)
                score = score_of(partner, statistics, percent)
                push(heap, size, score, keys[partner], partner, versions[partner])
                size += 1
            else:
                ends[edge, side] = kept
                table[at] = edge
                filled += 1
                _append(half, kept, lists)
        half = after
    return size, filled


@compiled
def _slot(table, ends, a, b):  # type: ignore[no-untyped-def]
    """Slot of the edge between regions a and b in a hash table with open addressing, or of a free slot."""
    low, high = np.uint64(min(a, b)), np.uint64(max(a, b))
    mask = np.uint64(len(table) - 1)
    mixed = (low * np.uint64(0x9E3779B97F4A7C15)) ^ (high * np.uint64(0xC2B2AE3D27D4EB4F))
    at = (mixed ^ (mixed >> np.uint64(29))) & mask
    while table[at] != _FREE:
        edge = table[at]
        if (ends[edge, 0] == a and ends[edge, 1] == b) or (ends[edge, 0] == b and ends[edge, 1] == a):
            break
        at = (at + np.uint64(1)) & mask
    return np.int64(at)


@compiled
def _table_of(ends, versions):  # type: ignore[no-untyped-def]
    """A new hash table of the existing edges, at most a third full, and their number."""
    size, filled = 16, 0
    while size < 3 * len(ends):
        size *= 2
    table = np.full(size, _FREE, ends.dtype)
    for edge in range(len(ends)):
        if versions[edge] != _GONE:
            table[_slot(table, ends, ends[edge, 0], ends[edge, 1])] = edge
            filled += 1
    return table, filled


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
        np.full(2 * len(ends), -1, ends.dtype),
        np.full(regions, -1, ends.dtype),
        np.full(regions, -1, ends.dtype),
        np.zeros(regions, ends.dtype),
    )
    for half in range(2 * len(ends)):
        _append(half, ends[half >> 1, half & 1], lists)
    return lists

"""Regions with many edges, hubs: their least edges in heaps, and the edges between two hubs in a hash table.

    hubs = (slots, free, heaps)

slots[region] is the heap of a hub, -1 for other regions. free[0] counts the free heaps, which follow. heaps[heap] has
begin, capacity and size in `entries`. With a capacity of 0 it must be made anew from the list of the hub's edges.

    tables = (pairs, filled, entries, used)

pairs: a hash table with all edges between two hubs, and edges that were, in `filled` of its places. entries: (score,
key, edge), of which `used` belong to heaps. A heap has all edges of its hub with the scores and keys that they had when
they were entered. Since edges never become less, its first edge is the least one if it is still as it was entered.
"""

from __future__ import annotations

import numpy as np

from neuroseg.agglomeration.half_edges import add_up, edge_in_list, is_gone, joins, least_in_list, push_front
from neuroseg.kernels import compiled, compiled_in_place

_FREE = -1  # a slot without an edge in the hash table


@compiled
def no_hubs(regions, most, like):  # type: ignore[no-untyped-def]
    """Space for some hubs, and empty tables. `like`: an array of the type that numbers edges."""
    free = np.arange(-1, most).astype(like.dtype)
    free[0] = most
    hubs = (np.full(regions, -1, like.dtype), free, np.zeros((most, 3), np.int64))
    return hubs, (np.full(1024, _FREE, like.dtype), 0, _entries(1024, like), 0)


@compiled
def _entries(count, like):  # type: ignore[no-untyped-def]
    return np.empty(count, np.float64), np.empty(count, like.dtype), np.empty(count, like.dtype)


@compiled
def make_hubs(graph, hubs, tables, hub_edges):  # type: ignore[no-untyped-def]
    """Make all regions with many edges hubs. Return the tables."""
    lengths = graph[2]
    for region in range(len(lengths)):
        if lengths[region] >= hub_edges:
            tables = become_hub(region, graph, hubs, tables)
    return tables


@compiled
def become_hub(region, graph, hubs, tables):  # type: ignore[no-untyped-def]
    """Make a region a hub if there is a free heap. Return the tables."""
    slots, free, heaps = hubs
    if free[0] == 0:
        return tables
    slots[region] = free[free[0]]
    free[0] -= 1
    heaps[slots[region], 1] = 0
    edges, firsts, _ = graph
    half = firsts[region]
    while half >= 0:
        edge, side = half >> 1, half & 1
        if not is_gone(edges[edge]) and slots[edges[edge].ends[1 - side]] >= 0:
            tables = _with_pair(edge, edges, slots, tables)
        half = edges[edge].nexts[side]
    return tables


@compiled_in_place
def end_hub(region, hubs):  # type: ignore[no-untyped-def]
    """Make a hub an ordinary region."""
    slots, free = hubs[:2]
    free[0] += 1
    free[free[0]] = slots[region]
    slots[region] = -1


@compiled
def absorb(hub, gone, graph, least, hubs, tables, statistics, percent):  # type: ignore[no-untyped-def]
    """Move the edges of a region to a hub, or add them to those of the hub. Return the tables."""
    edges, firsts, _ = graph
    slots, half = hubs[0], firsts[gone]
    while half >= 0:
        edge, side = half >> 1, half & 1
        half = edges[edge].nexts[side]
        if is_gone(edges[edge]):
            continue
        other = edges[edge].ends[1 - side]
        known = _edge_of_pair(tables, edges, hub, other) if slots[other] >= 0 else edge_in_list(other, hub, graph)
        if known >= 0 and add_up(known, edge, edges, least, statistics, percent) == known:
            continue
        push_front(edge, side, hub, graph)
        _enter_in_heap(edge, hubs[2][slots[hub]], edges, tables[2])
        if slots[other] >= 0:
            tables = _with_pair(edge, edges, slots, tables)
    return tables


@compiled
def least_of_hub(hub, graph, hubs, tables, hub_edges):  # type: ignore[no-untyped-def]
    """The least edge of a hub, -1 without edges, and the tables. It ceases to be a hub if it has few edges."""
    edges, _, lengths = graph
    heap = hubs[2][hubs[0][hub]]
    if heap[1] == 0:
        least = least_in_list(hub, graph)
        if 2 * lengths[hub] < hub_edges:
            end_hub(hub, hubs)
            return least, tables
        tables = _with_heap(hub, graph, hubs, tables)
    scores, keys, items = tables[2]
    begin = heap[0]
    while heap[2] > 0:
        edge = items[begin]
        if is_gone(edges[edge]):
            heap[2] -= 1
            last = begin + heap[2]
            _sink(scores[last], keys[last], items[last], heap, tables[2])
        elif scores[begin] != edges[edge].score or keys[begin] != edges[edge].key:
            _sink(edges[edge].score, edges[edge].key, edge, heap, tables[2])
        else:
            return edge, tables
    return -1, tables


@compiled
def _with_heap(hub, graph, hubs, tables):  # type: ignore[no-untyped-def]
    """The tables after the heap of a hub was made from the list of its edges. Without space, all heaps are dropped."""
    (edges, firsts, lengths), (slots, _, heaps) = graph, hubs
    pairs, filled, entries, used = tables
    heap, capacity = heaps[slots[hub]], 2 * np.int64(lengths[hub])
    if used + capacity > len(entries[0]):
        every = 0
        for region in range(len(slots)):
            every += lengths[region] if slots[region] >= 0 else 0
        entries, used = _entries(4 * every + capacity, pairs), 0
        heaps[:, 1] = 0
    heap[0], heap[1], heap[2] = used, capacity, 0
    half = firsts[hub]
    while half >= 0:
        _enter_in_heap(half >> 1, heap, edges, entries)
        half = edges[half >> 1].nexts[half & 1]
    return pairs, filled, entries, used + capacity


@compiled_in_place
def _enter_in_heap(edge, heap, edges, entries):  # type: ignore[no-untyped-def]
    """Enter an edge into the heap of a hub. A heap without space is dropped."""
    scores, keys, items = entries
    begin, capacity, size = heap
    if size >= capacity:
        heap[1] = 0
        return
    score, key, at = edges[edge].score, edges[edge].key, size
    while at > 0:
        above = begin + ((at - 1) >> 1)
        if not _precedes(score, key, scores[above], keys[above]):
            break
        scores[begin + at], keys[begin + at], items[begin + at] = scores[above], keys[above], items[above]
        at = (at - 1) >> 1
    scores[begin + at], keys[begin + at], items[begin + at] = score, key, edge
    heap[2] = size + 1


@compiled_in_place
def _sink(score, key, edge, heap, entries):  # type: ignore[no-untyped-def]
    """Replace the first entry of a heap."""
    scores, keys, items = entries
    begin, _, size = heap
    at = 0
    while 2 * at + 1 < size:
        below = begin + 2 * at + 1
        if 2 * at + 2 < size and _precedes(scores[below + 1], keys[below + 1], scores[below], keys[below]):
            below += 1
        if not _precedes(scores[below], keys[below], score, key):
            break
        scores[begin + at], keys[begin + at], items[begin + at] = scores[below], keys[below], items[below]
        at = below - begin
    scores[begin + at], keys[begin + at], items[begin + at] = score, key, edge


@compiled_in_place
def _precedes(score, key, other_score, other_key):  # type: ignore[no-untyped-def]
    return score < other_score or (score == other_score and key < other_key)


@compiled_in_place
def _edge_of_pair(tables, edges, one, other):  # type: ignore[no-untyped-def]
    """The edge between two hubs, or -1."""
    pairs = tables[0]
    return pairs[_place(pairs, edges, one, other)]


@compiled
def _with_pair(edge, edges, slots, tables):  # type: ignore[no-untyped-def]
    """The tables, with one edge more between two hubs."""
    pairs, filled, entries, used = tables
    if 2 * (filled + 1) > len(pairs):
        known = pairs[pairs != _FREE]
        valid = np.zeros(len(known), np.bool_)
        for at in range(len(known)):
            each = edges[known[at]]
            valid[at] = not is_gone(each) and slots[each.ends[0]] >= 0 and slots[each.ends[1]] >= 0
        size = 1024
        while size < 4 * (valid.sum() + 1):
            size *= 2
        pairs, filled = np.full(size, _FREE, pairs.dtype), 0
        for each in known[valid]:
            filled += _enter_pair(each, edges, pairs)
    return pairs, filled + _enter_pair(edge, edges, pairs), entries, used


@compiled_in_place
def _enter_pair(edge, edges, table):  # type: ignore[no-untyped-def]
    """Enter an edge into a table of pairs. Return the number of places that it fills: 0 or 1."""
    at = _place(table, edges, edges[edge].ends[0], edges[edge].ends[1])
    is_free = table[at] == _FREE
    table[at] = edge
    return np.int64(is_free)


@compiled_in_place
def _place(table, edges, one, other):  # type: ignore[no-untyped-def]
    """The place of the edge between two regions in a table of pairs, or a free place."""
    low, high = np.uint64(min(one, other)), np.uint64(max(one, other))
    mixed = low * np.uint64(0x9E3779B97F4A7C15) ^ high * np.uint64(0xC2B2AE3D27D4EB4F)
    at, mask = np.int64(mixed >> np.uint64(32)) & (len(table) - 1), len(table) - 1
    while table[at] != _FREE and not joins(edges[table[at]], one, other):
        at = (at + 1) & mask
    return at

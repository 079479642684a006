"""Regions with many edges, hubs: their least edges in a queue, and the edges between two hubs in a hash table.

    hubs = (slots, free, edges, scores, keys, lengths, limits)

slots[region] is the row of a hub's queue, -1 for other regions. A queue has the least edges of its hub, the least one
last, with the scores and keys that they had. Edges of the hub that are not in the queue are not less than its limit
(score, key), since edges never become less. free[0] counts the free rows, which follow.

    pairs = (table, filled)

The hash table has all edges between two hubs, and edges that were, in `filled` of its places.
"""

from __future__ import annotations

import numpy as np

from neuroseg.agglomeration.half_edges import add_up, edge_in_list, is_gone, joins, least_in_list, push_front
from neuroseg.kernels import compiled

_FREE = -1  # a slot without an edge in the hash table


@compiled
def no_hubs(regions, rows, queue_length, index):  # type: ignore[no-untyped-def]
    """Space for some hubs. `index`: an array of the type that numbers edges."""
    free = np.arange(-1, rows).astype(index.dtype)
    free[0] = rows
    return (
        np.full(regions, -1, index.dtype),
        free,
        np.empty((rows, queue_length), index.dtype),
        np.empty((rows, queue_length), np.float64),
        np.empty((rows, queue_length), index.dtype),
        np.zeros(rows, np.int64),
        np.empty((rows, 2), np.float64),
    )


@compiled
def become_hub(region, graph, hubs, pairs):  # type: ignore[no-untyped-def]
    """Make a region a hub if there is a free queue. Return the table of pairs."""
    slots, free = hubs[:2]
    if free[0] == 0:
        return pairs
    row = free[free[0]]
    free[0] -= 1
    slots[region] = row
    # Nothing is known of its edges.
    hubs[5][row], hubs[6][row, 0], hubs[6][row, 1] = 0, -1.0, -1.0
    edges, firsts, _ = graph
    half = firsts[region]
    while half >= 0:
        edge, side = half >> 1, half & 1
        if not is_gone(edges[edge]) and slots[edges[edge].ends[1 - side]] >= 0:
            pairs = _with_pair(edge, edges, slots, pairs)
        half = edges[edge].nexts[side]
    return pairs


@compiled
def end_hub(region, hubs):  # type: ignore[no-untyped-def]
    """Make a hub an ordinary region."""
    slots, free = hubs[:2]
    free[0] += 1
    free[free[0]] = slots[region]
    slots[region] = -1


@compiled
def absorb(hub, gone, graph, least, hubs, pairs, statistics, percent):  # type: ignore[no-untyped-def]
    """Move the edges of a region to a hub, or add them to those of the hub. Return the table of pairs."""
    edges, firsts, _ = graph
    slots, half = hubs[0], firsts[gone]
    while half >= 0:
        edge, side = half >> 1, half & 1
        half = edges[edge].nexts[side]
        if is_gone(edges[edge]):
            continue
        other = edges[edge].ends[1 - side]
        known = _edge_of_pair(pairs, edges, hub, other) if slots[other] >= 0 else edge_in_list(other, hub, graph)
        if known >= 0 and add_up(known, edge, edges, least, statistics, percent) == known:
            continue
        push_front(edge, side, hub, graph)
        _offer(edge, slots[hub], edges, hubs)
        if slots[other] >= 0:
            pairs = _with_pair(edge, edges, slots, pairs)
    return pairs


@compiled
def least_of_hub(hub, graph, hubs, hub_edges):  # type: ignore[no-untyped-def]
    """The least edge of a hub, -1 without edges. It ceases to be a hub if it has less than half of `hub_edges`."""
    edges, firsts, lengths = graph
    slots, _, queue, scores, keys, queued, limits = hubs
    row = slots[hub]
    for _ in range(2):
        while queued[row]:
            last = queued[row] - 1
            edge = queue[row, last]
            is_there = not is_gone(edges[edge])
            if is_there and scores[row, last] == edges[edge].score and keys[row, last] == edges[edge].key:
                return edge
            queued[row] = last
            if is_there:
                _offer(edge, row, edges, hubs)
        least = least_in_list(hub, graph)
        if 2 * lengths[hub] < hub_edges:
            end_hub(hub, hubs)
            return least
        limits[row, 0] = np.inf
        half = firsts[hub]
        while half >= 0:
            _offer(half >> 1, row, edges, hubs)
            half = edges[half >> 1].nexts[half & 1]
    raise AssertionError("a queue that was just filled has a least edge")


@compiled
def _offer(edge, row, edges, hubs):  # type: ignore[no-untyped-def]
    """Put an edge into a queue if it is less than the limit of the queue."""
    _, _, queue, scores, keys, queued, limits = hubs
    score, key, length = edges[edge].score, edges[edge].key, queued[row]
    if not _precedes(score, key, limits[row, 0], limits[row, 1]):
        return
    at = length
    if length == queue.shape[1]:
        if not _precedes(score, key, scores[row, 0], keys[row, 0]):
            limits[row, 0], limits[row, 1] = score, key
            return
        limits[row, 0], limits[row, 1] = scores[row, 0], keys[row, 0]
        at = 0
        while at + 1 < length and _precedes(score, key, scores[row, at + 1], keys[row, at + 1]):
            _move(at + 1, at, row, queue, scores, keys)
            at += 1
    else:
        queued[row] = length + 1
        while at > 0 and _precedes(scores[row, at - 1], keys[row, at - 1], score, key):
            _move(at - 1, at, row, queue, scores, keys)
            at -= 1
    queue[row, at], scores[row, at], keys[row, at] = edge, score, key


@compiled
def _precedes(score, key, other_score, other_key):  # type: ignore[no-untyped-def]
    return score < other_score or (score == other_score and key < other_key)


@compiled
def _move(at, to, row, queue, scores, keys):  # type: ignore[no-untyped-def]
    queue[row, to], scores[row, to], keys[row, to] = queue[row, at], scores[row, at], keys[row, at]


@compiled
def no_pairs(index):  # type: ignore[no-untyped-def]
    """An empty table of pairs. `index`: an array of the type that numbers edges."""
    return np.full(1024, _FREE, index.dtype), 0


@compiled
def _edge_of_pair(pairs, edges, one, other):  # type: ignore[no-untyped-def]
    """The edge between two hubs, or -1."""
    table = pairs[0]
    return table[_place(table, edges, one, other)]


@compiled
def _with_pair(edge, edges, slots, pairs):  # type: ignore[no-untyped-def]
    """The table of pairs, with one edge more."""
    table, filled = pairs
    if 2 * (filled + 1) > len(table):
        known = table[table != _FREE]
        valid = np.zeros(len(known), np.bool_)
        for at in range(len(known)):
            each = edges[known[at]]
            valid[at] = not is_gone(each) and slots[each.ends[0]] >= 0 and slots[each.ends[1]] >= 0
        size = 1024
        while size < 4 * (valid.sum() + 1):
            size *= 2
        table, filled = np.full(size, _FREE, table.dtype), 0
        for each in known[valid]:
            filled += _enter(each, edges, table)
    filled += _enter(edge, edges, table)
    return table, filled


@compiled
def _enter(edge, edges, table):  # type: ignore[no-untyped-def]
    """Enter an edge into a table of pairs. Return the number of places that it fills: 0 or 1."""
    at = _place(table, edges, edges[edge].ends[0], edges[edge].ends[1])
    is_free = table[at] == _FREE
    table[at] = edge
    return np.int64(is_free)


@compiled
def _place(table, edges, one, other):  # type: ignore[no-untyped-def]
    """The place of the edge between two regions in a table of pairs, or a free place."""
    low, high = np.uint64(min(one, other)), np.uint64(max(one, other))
    mixed = low * np.uint64(0x9E3779B97F4A7C15) ^ high * np.uint64(0xC2B2AE3D27D4EB4F)
    at, mask = np.int64(mixed >> np.uint64(32)) & (len(table) - 1), len(table) - 1
    while table[at] != _FREE and not joins(edges[table[at]], one, other):
        at = (at + 1) & mask
    return at

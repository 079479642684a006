"""Edges between regions -> most of the merges, in rounds.

    least edge of each region  ->  merge each pair of regions that have the same least edge  ->  add up double edges

Any order of such merges gives the same tree (block_groups.py). A round reads the edges one after the other, which is
several times faster than a heap, as long as many regions merge in a round. The heap does the rest (merging.py).
"""

from __future__ import annotations

import numpy as np

from neuroseg.agglomeration.edge_statistics import add_to, score_of
from neuroseg.kernels import compiled

_FREE = -1  # a slot without an edge in a hash table
_OPEN, _CHANGED, _FLAG_BITS = 1, 2, 2  # flags of a region in this round, below the region that it belongs to


@compiled
def merge_in_rounds(edges, is_open, active, statistics, percent, edges_a_merge):  # type: ignore[no-untyped-def]
    """Merges as in `all_merges`, in any order, the edges that may still merge, and the edges that never do.

    `edges`: ends, keys and links as in `all_merges`, all changed, as are `is_open` and `statistics`. `active`: the
    numbers of all edges, changed. An edge never merges if both of its regions are open or must wait. Ends after a round
    with less than one merge for `edges_a_merge` edges.
    """
    ends = edges[0]
    regions, size = len(is_open), len(active)
    is_waiting = np.zeros(len(ends), np.bool_)
    made = np.empty((regions, 4), ends.dtype)
    scores, merges = np.empty(regions, np.float64), 0
    while True:
        least = _least_edges(active[:size], edges, regions, statistics, percent)
        before = merges
        merges = _merge_pairs(least, edges, is_open, made, scores, merges)
        states = _states(is_open, made[before:merges])
        size = _contract(active[:size], is_waiting, edges, states, statistics, percent)
        if (merges - before) * edges_a_merge <= size:
            break
    rows = made[:merges, 0], made[:merges, 1], scores[:merges], made[:merges, 2], made[:merges, 3]
    return rows, active[:size], np.flatnonzero(is_waiting)


@compiled
def _least_edges(active, edges, regions, statistics, percent):  # type: ignore[no-untyped-def]
    """Score, key and number of the least edge of each region, side by side in memory: `(regions, 3)` float64.

    -1 for a region without edges. Keys and numbers below 2^53 are exact.
    """
    ends, keys, _ = edges
    least = np.full((regions, 3), -1.0)
    for edge in active:
        score, key = score_of(edge, statistics, percent), np.float64(keys[edge])
        for side in range(2):
            known = least[ends[edge, side]]
            if known[2] < 0 or score < known[0] or (score == known[0] and key < known[1]):
                known[0], known[1], known[2] = score, key, edge
    return least


@compiled
def _merge_pairs(least, edges, is_open, made, scores, merges):  # type: ignore[no-untyped-def]
    """Merge the pairs of regions that have the same least edge. Return the number of merges.

    A region whose least edge leads to an open one must wait, so it counts as open.
    """
    ends, keys, links = edges
    for region in range(len(least)):
        edge = np.int64(least[region, 2])
        if edge < 0:
            continue
        other = ends[edge, 0] + ends[edge, 1] - region
        if is_open[region] or is_open[other]:
            is_open[region] = True
        elif region < other and least[other, 2] == edge:
            made[merges, 0], made[merges, 1], made[merges, 2], made[merges, 3] = region, other, keys[edge], links[edge]
            scores[merges] = least[region, 0]
            merges += 1
    return merges


@compiled
def _states(is_open, made):  # type: ignore[no-untyped-def]
    """For each region: the smaller one if it has merged into that one, and the flags of that one, in one number."""
    states = np.empty(len(is_open), np.int64)
    for region in range(len(states)):
        states[region] = (region << _FLAG_BITS) | (_OPEN if is_open[region] else 0)
    for row in range(len(made)):
        states[made[row, 0]] |= _CHANGED
        states[made[row, 1]] = states[made[row, 0]]
    return states


@compiled
def _contract(active, is_waiting, edges, states, statistics, percent):  # type: ignore[no-untyped-def]
    """Replace merged regions in the active edges, and add up edges that join the same regions.

    Mark edges that never merge as waiting. Return the number of active edges.
    """
    ends = edges[0]
    table, kept = np.full(2 * len(active) + 1, _FREE, ends.dtype), 0
    for edge in active:
        one, other = states[ends[edge, 0]], states[ends[edge, 1]]
        if one == other:
            continue
        if one & other & _OPEN:
            is_waiting[edge] = True
            continue
        first, second = min(one, other) >> _FLAG_BITS, max(one, other) >> _FLAG_BITS
        ends[edge, 0], ends[edge, 1] = first, second
        if (one | other) & _CHANGED:
            at = _slot(table, ends, first, second)
            if table[at] != _FREE:
                _add(table[at], edge, edges, statistics, percent)
                continue
            table[at] = edge
        active[kept] = edge
        kept += 1
    return kept


@compiled
def _slot(table, ends, first, second):  # type: ignore[no-untyped-def]
    """The slot of the edge between two regions in a hash table, at most half full, or a free slot."""
    mixed = np.uint64(first) * np.uint64(0x9E3779B97F4A7C15) ^ np.uint64(second) * np.uint64(0xC2B2AE3D27D4EB4F)
    # Scale 32 bits to the size of the table.
    at = ((mixed >> np.uint64(32)) * np.uint64(len(table))) >> np.uint64(32)
    while table[at] != _FREE and (ends[table[at], 0] != first or ends[table[at], 1] != second):
        at += np.uint64(1)
        if at == np.uint64(len(table)):
            at = np.uint64(0)
    return np.int64(at)


@compiled
def _add(edge, other, edges, statistics, percent):  # type: ignore[no-untyped-def]
    """Add an edge to another one between the same regions."""
    _, keys, links = edges
    keys[edge] = max(keys[edge], keys[other])
    links[edge] = max(links[edge], links[other])
    add_to(edge, other, statistics, percent)

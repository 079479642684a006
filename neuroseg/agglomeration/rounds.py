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


@compiled
def merge_in_rounds(edges, is_open, contacts, statistics, percent, edges_a_merge):  # type: ignore[no-untyped-def]
    """Merges as in `all_merges`, in any order, the edges that may still merge, and the edges that never do.

    `edges`: ends, scores, keys and links as in `all_merges`, all changed, as are `is_open` and `statistics`. An edge
    never merges if both of its regions are open or must wait. Ends after a round with less than one merge for
    `edges_a_merge` edges.
    """
    ends, scores, keys, _ = edges
    regions = len(is_open)
    active, size = np.arange(len(ends)).astype(ends.dtype), len(ends)
    waiting, waits = np.empty(len(ends), ends.dtype), 0
    parents = np.arange(regions).astype(ends.dtype)
    made = np.empty((regions, 4), ends.dtype)
    made_scores, merges = np.empty(regions, np.float64), 0
    while True:
        least = _least_edges(active[:size], ends, scores, keys, regions)
        before = merges
        merges = _merge_pairs(least, edges, is_open, parents, made, made_scores, merges)
        size, waits = _contract(
            active, size, waiting, waits, made[before:merges], edges, is_open, parents, contacts, statistics, percent
        )
        if (merges - before) * edges_a_merge <= size:
            break
    rows = made[:merges, 0], made[:merges, 1], made_scores[:merges], made[:merges, 2], made[:merges, 3]
    return rows, active[:size], waiting[:waits]


@compiled
def _least_edges(active, ends, scores, keys, regions):  # type: ignore[no-untyped-def]
    """The edge with the least (score, key) of each region, -1 for a region without edges."""
    least = np.full(regions, -1, ends.dtype)
    least_scores, least_keys = np.empty(regions, np.float64), np.empty(regions, ends.dtype)
    for edge in active:
        score, key = scores[edge], keys[edge]
        for side in range(2):
            region = ends[edge, side]
            known = least_scores[region]
            if least[region] < 0 or score < known or (score == known and key < least_keys[region]):
                least[region], least_scores[region], least_keys[region] = edge, score, key
    return least


@compiled
def _merge_pairs(least, edges, is_open, parents, made, made_scores, merges):  # type: ignore[no-untyped-def]
    """Merge the pairs of regions that have the same least edge, into the smaller one. Return the number of merges.

    A region whose least edge leads to an open one must wait, so it counts as open.
    """
    ends, scores, keys, links = edges
    for region in range(len(least)):
        edge = least[region]
        if edge < 0:
            continue
        other = ends[edge, 0] + ends[edge, 1] - region
        if is_open[region] or is_open[other]:
            is_open[region] = True
        elif region < other and least[other] == edge:
            parents[other] = region
            made[merges, 0], made[merges, 1], made[merges, 2], made[merges, 3] = region, other, keys[edge], links[edge]
            made_scores[merges] = scores[edge]
            merges += 1
    return merges


@compiled
def _contract(active, size, waiting, waits, made, edges, is_open, parents, contacts, statistics, percent):  # type: ignore[no-untyped-def]
    """Replace merged regions in the active edges, and add up edges that join the same regions.

    Move edges that never merge to `waiting`. Return the numbers of active and of waiting edges.
    """
    ends = edges[0]
    is_changed = np.zeros(len(parents), np.bool_)
    for row in range(len(made)):
        is_changed[made[row, 0]] = True
    table, kept = _table_for(active[:size], ends, parents, is_changed), 0
    for edge in active[:size]:
        one, other = parents[ends[edge, 0]], parents[ends[edge, 1]]
        if one == other:
            continue
        if is_open[one] and is_open[other]:
            waiting[waits] = edge
            waits += 1
            continue
        ends[edge, 0], ends[edge, 1] = min(one, other), max(one, other)
        if is_changed[one] or is_changed[other]:
            at = _slot(table, ends, edge)
            if table[at] != _FREE:
                _add(table[at], edge, edges, contacts, statistics, percent)
                continue
            table[at] = edge
        active[kept] = edge
        kept += 1
    return kept, waits


@compiled
def _table_for(active, ends, parents, is_changed):  # type: ignore[no-untyped-def]
    """An empty hash table for the edges of changed regions, which fill at most half of it."""
    count, size = 0, 16
    for edge in active:
        count += is_changed[parents[ends[edge, 0]]] or is_changed[parents[ends[edge, 1]]]
    while size < 2 * count:
        size *= 2
    return np.full(size, _FREE, ends.dtype)


@compiled
def _slot(table, ends, edge):  # type: ignore[no-untyped-def]
    """The slot of an edge with the same two regions, or a free slot."""
    one, other, mask = ends[edge, 0], ends[edge, 1], np.uint64(len(table) - 1)
    mixed = np.uint64(one) * np.uint64(0x9E3779B97F4A7C15) ^ np.uint64(other) * np.uint64(0xC2B2AE3D27D4EB4F)
    at = (mixed ^ (mixed >> np.uint64(29))) & mask
    while table[at] != _FREE and (ends[table[at], 0] != one or ends[table[at], 1] != other):
        at = (at + np.uint64(1)) & mask
    return np.int64(at)


@compiled
def _add(edge, other, edges, contacts, statistics, percent):  # type: ignore[no-untyped-def]
    """Add an edge to another one between the same regions."""
    _, scores, keys, links = edges
    keys[edge] = max(keys[edge], keys[other])
    links[edge] = stronger(links[edge], links[other], contacts)
    add_to(edge, other, statistics, percent)
    scores[edge] = score_of(edge, statistics, percent)


@compiled
def stronger(one, other, contacts):  # type: ignore[no-untyped-def]
    """The row of `contacts` with the larger sum, of equal sums the one with the larger fragments.

    `contacts`: sums of affinities, smaller and larger fragments.
    """
    sums, firsts, seconds = contacts
    if sums[one] != sums[other]:
        return one if sums[one] > sums[other] else other
    if firsts[one] != firsts[other]:
        return one if firsts[one] > firsts[other] else other
    return one if seconds[one] > seconds[other] else other

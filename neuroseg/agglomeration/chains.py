"""Edges between regions -> all merges, along chains of least edges.

    region -> its neighbour over its least edge -> the neighbour's neighbour -> ... -> back: merge these two

An edge is least by (score, key). Two regions merge if their edge is the least of both, in any order of such merges
(block_groups.py). Along a chain edges become less, so it ends at such a pair, or at an open region.

The edges of the smaller region move to the list of the other one, or are added to its edges to the same neighbours. A
region with many edges, a hub, absorbs a small one without a look at all its edges (hubs.py).

A region may be open: it has contacts that are not in the table. Then its least edge is unknown, so it merges with none.
A region whose least edge joins it to an open one must wait for that one, so it merges with none from then on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroseg.agglomeration.edge_statistics import Arrays
from neuroseg.agglomeration.half_edges import (
    add_up,
    find_least_edges,
    is_gone,
    is_less,
    joins,
    least_in_list,
    link_edges,
    push_front,
    remove,
)
from neuroseg.agglomeration.hubs import absorb, become_hub, end_hub, least_of_hub, make_hubs, no_hubs
from neuroseg.kernels import compiled, compiled_in_place
from neuroseg.tables import Allocate

_WIDER = 4


def merge_along_chains(
    edges: NDArray[Any],
    is_open: NDArray[np.bool_],
    statistics: Arrays,
    percent: int,
    hub_edges: int,
    width: int,
    new: Allocate = np.empty,
) -> tuple[Arrays, NDArray[np.int64]]:
    """Return the merges, in any order, and the numbers of the edges that are left, in ascending order.

    `edges` (half_edges.py) has ends, keys and links. It is changed, as are `is_open` (for each region) and
    `statistics`. Of several edges that are added up, the largest key and the largest link stay.

    A merge has the smaller and the larger region, score, key, and link. Each is an array with one value for each merge.
    A region is a hub from `hub_edges` edges on. First, chains stay in ranges of `width` regions, which are often near
    each other, then in larger ones: they read less memory. `new` allocates arrays.
    """
    regions, index = len(is_open), edges.dtype["key"]
    # numpy asks for large pages of memory, compiled code does not.
    firsts, lengths, smallest, least, marks, chain = (new(regions, index) for _ in range(6))
    firsts[:], lengths[:], least[:], marks[:] = -1, 0, -1, 0
    smallest[:] = np.arange(regions, dtype=index)
    graph, found, space = (edges, firsts, lengths), (smallest, least), (marks, chain)
    made = (new((regions, 4), index), new(regions, np.float64))
    link_edges(graph, statistics, percent)
    find_least_edges(edges, least)
    hubs, tables = no_hubs(regions, 2 * len(edges) // hub_edges, chain)
    tables = make_hubs(graph, hubs, tables, hub_edges)
    merges = 0
    while True:
        counts = merges, width, hub_edges
        merges, tables = _merge_all(graph, found, space, made, is_open, hubs, tables, statistics, percent, counts)
        if width >= regions:
            break
        width *= _WIDER
    rows, scores = made[0][:merges], made[1][:merges]
    left = np.flatnonzero(edges["ends"][:, 0] >= 0)
    edges["ends"][left] = found[0][edges["ends"][left]]
    return (rows[:, 0], rows[:, 1], scores, rows[:, 2], rows[:, 3]), left


@compiled
def _merge_all(graph, found, space, made, is_open, hubs, tables, statistics, percent, counts):  # type: ignore[no-untyped-def]
    """Merge in ranges of regions. Return the number of merges, which are written to `made`, and the tables of hubs.

    found: the smallest region that belongs to each one, and its least edge, -1 if it is not known. space: an edge and a
    region for each region. counts: the number of merges before, regions in a range, and edges of a hub.
    """
    edges, (smallest, least), (marks, chain), (rows, scores) = graph[0], found, space, made
    merges, width, hub_edges = counts
    for start in range(len(least)):
        begin = start // width * width
        chain[0], size = start, 1
        while size:
            region = chain[size - 1]
            if not is_open[region] and least[region] < 0:
                if hubs[0][region] < 0:
                    least[region] = least_in_list(region, graph)
                else:
                    least[region], tables = least_of_hub(region, graph, hubs, tables, hub_edges)
            edge = least[region]
            other = region if edge < 0 else edges[edge].ends[0] + edges[edge].ends[1] - region
            if is_open[region] or is_open[other]:
                for at in range(size):
                    is_open[chain[at]] = True
                size = 0
            elif edge < 0 or other < begin or other >= begin + width:
                size = 0
            elif size == 1 or chain[size - 2] != other:
                chain[size] = other
                size += 1
            else:
                _record(merges, edges[edge], smallest, rows, scores)
                merges += 1
                kept, gone = _longer_first(edges[edge], graph, hubs)
                smallest[kept] = min(smallest[kept], smallest[gone])
                remove(edges[edge])
                if hubs[0][kept] >= 0:
                    tables = absorb(kept, gone, graph, least, hubs, tables, statistics, percent)
                    least[kept] = -1
                else:
                    least[kept] = _merge_lists(kept, gone, graph, least, marks, statistics, percent)
                    if graph[2][kept] >= hub_edges:
                        tables = become_hub(kept, graph, hubs, tables)
                graph[1][gone] = least[gone] = -1
                size -= 2
                if size == 0:
                    chain[0], size = kept, 1
    return merges, tables


@compiled_in_place
def _record(merge, edge, smallest, rows, scores):  # type: ignore[no-untyped-def]
    """Write the row of a merge over an edge, a record."""
    one, other = smallest[edge.ends[0]], smallest[edge.ends[1]]
    rows[merge, 0], rows[merge, 1] = min(one, other), max(one, other)
    rows[merge, 2], rows[merge, 3], scores[merge] = edge.key, edge.link, edge.score


@compiled_in_place
def _longer_first(edge, graph, hubs):  # type: ignore[no-untyped-def]
    """The ends of an edge, a record: first a hub, or the region with more edges. The second one is no hub any more."""
    slots, lengths, kept, gone = hubs[0], graph[2], edge.ends[0], edge.ends[1]
    if (slots[gone] >= 0, lengths[gone]) > (slots[kept] >= 0, lengths[kept]):
        kept, gone = gone, kept
    if slots[gone] >= 0:
        end_hub(gone, hubs)
    return kept, gone


@compiled_in_place
def _merge_lists(kept, gone, graph, least, marks, statistics, percent):  # type: ignore[no-untyped-def]
    """Move the edges of a region to another one, or add them to those of the other one. Return the least edge.

    marks[region] is the edge from `gone` to this region, if there is one.
    """
    edges, firsts, lengths = graph
    half = firsts[gone]
    while half >= 0:
        edge, side = half >> 1, half & 1
        if not is_gone(edges[edge]):
            marks[edges[edge].ends[1 - side]] = edge
        half = edges[edge].nexts[side]
    half, before, best, length = firsts[kept], -1, -1, 0
    while half >= 0:
        edge, side = half >> 1, half & 1
        after = edges[edge].nexts[side]
        if not is_gone(edges[edge]):
            other = edges[edge].ends[1 - side]
            if joins(edges[marks[other]], gone, other):
                add_up(edge, marks[other], edges, least, statistics, percent)
        if is_gone(edges[edge]):
            if before < 0:
                firsts[kept] = after
            else:
                edges[before >> 1].nexts[before & 1] = after
        else:
            if best < 0 or is_less(edges[edge], edges[best]):
                best = edge
            before, length = half, length + 1
        half = after
    lengths[kept] = length
    half = firsts[gone]
    while half >= 0:
        edge, side = half >> 1, half & 1
        half = edges[edge].nexts[side]
        if not is_gone(edges[edge]):
            push_front(edge, side, kept, graph)
            if best < 0 or is_less(edges[edge], edges[best]):
                best = edge
    return best

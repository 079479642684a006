"""The edges of each region as linked lists of half-edges, for compiled code.

    graph = (edges, firsts, lengths)

`edges` has the type `edge_type`: what is read together lies side by side in memory. Half-edge 2 e + side is edge e,
seen from the region edges[e].ends[side]. edges[e].nexts[side] is the next half-edge of this region, and firsts[region]
its first one. -1 ends a list. An edge that is gone has ends of -1. Its half-edges stay in the lists until these are
read, so lengths[region] may count edges that are gone.

An edge is less than another one by (score, key).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from neuroseg.agglomeration.edge_statistics import add_to, score_of
from neuroseg.kernels import compiled_in_place


def edge_type(index: type[np.signedinteger[Any]]) -> np.dtype[Any]:
    """Return the type of an edge. `index`: the type that numbers edges and regions.

    `ends`: its two regions. `nexts`: the next half-edge of each of them. `score`. `key`: the largest row of the table
    among those that are added up in it. `link`: the largest rank of a link among them.
    """
    return np.dtype([("ends", index, 2), ("nexts", index, 2), ("score", np.float64), ("key", index), ("link", index)])


@compiled_in_place
def link_edges(graph, statistics, percent):  # type: ignore[no-untyped-def]
    """Set the scores of all edges, and put them into the lists of their regions, which are empty."""
    edges = graph[0]
    for edge in range(len(edges) - 1, -1, -1):
        edges[edge].score = score_of(edge, statistics, percent)
        for side in range(2):
            push_front(edge, side, edges[edge].ends[side], graph)


@compiled_in_place
def find_least_edges(edges, least):  # type: ignore[no-untyped-def]
    """Write the least edge of each region to `least`, which has -1 everywhere."""
    for edge in range(len(edges)):
        for side in range(2):
            region = edges[edge].ends[side]
            if least[region] < 0 or is_less(edges[edge], edges[least[region]]):
                least[region] = edge


@compiled_in_place
def push_front(edge, side, region, graph):  # type: ignore[no-untyped-def]
    """Make a region one end of an edge, and put the half-edge into its list."""
    edges, firsts, lengths = graph
    edges[edge].ends[side] = region
    edges[edge].nexts[side] = firsts[region]
    firsts[region] = 2 * edge + side
    lengths[region] += 1


@compiled_in_place
def is_less(one, other):  # type: ignore[no-untyped-def]
    """Whether an edge, a record, is less than another one."""
    return one.score < other.score or (one.score == other.score and one.key < other.key)


@compiled_in_place
def joins(edge, one, other):  # type: ignore[no-untyped-def]
    """Whether an edge, a record, joins two regions."""
    first, second = edge.ends[0], edge.ends[1]
    return (first == one and second == other) or (first == other and second == one)


@compiled_in_place
def add_up(edge, other, edges, least, statistics, percent):  # type: ignore[no-untyped-def]
    """Add up two edges to the same region. The lesser one stays, so that no edge ever becomes less. Return it.

    The least edges of the regions are forgotten if they are one of the two.
    """
    if is_less(edges[other], edges[edge]):
        edge, other = other, edge
    for each in (edge, other):
        for side in range(2):
            if least[edges[each].ends[side]] == each:
                least[edges[each].ends[side]] = -1
    add_to(edge, other, statistics, percent)
    kept, gone = edges[edge], edges[other]
    kept.key, kept.link, kept.score = (
        max(kept.key, gone.key),
        max(kept.link, gone.link),
        score_of(edge, statistics, percent),
    )
    remove(gone)
    return edge


@compiled_in_place
def remove(edge):  # type: ignore[no-untyped-def]
    """Remove an edge, a record."""
    edge.ends[0] = edge.ends[1] = -1


@compiled_in_place
def is_gone(edge):  # type: ignore[no-untyped-def]
    """Whether an edge, a record, was removed."""
    return edge.ends[0] < 0


@compiled_in_place
def least_in_list(region, graph):  # type: ignore[no-untyped-def]
    """The least edge of a region, -1 without edges. Edges that are gone are removed from its list."""
    edges, firsts, lengths = graph
    half, before, least, length = firsts[region], -1, -1, 0
    while half >= 0:
        edge, side = half >> 1, half & 1
        after = edges[edge].nexts[side]
        if not is_gone(edges[edge]):
            if least < 0 or is_less(edges[edge], edges[least]):
                least = edge
            length += 1
            before = half
        elif before < 0:
            firsts[region] = after
        else:
            edges[before >> 1].nexts[before & 1] = after
        half = after
    lengths[region] = length
    return least


@compiled_in_place
def edge_in_list(region, other, graph):  # type: ignore[no-untyped-def]
    """The edge between two regions, from the list of the first one, or -1."""
    edges, firsts, _ = graph
    half = firsts[region]
    while half >= 0:
        edge, side = half >> 1, half & 1
        if edges[edge].ends[1 - side] == other:
            return edge
        half = edges[edge].nexts[side]
    return -1

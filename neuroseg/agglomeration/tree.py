"""Edge table -> merge tree, by repeatedly merging the edge with the smallest (score, key).

The key of an edge is the largest pair of fragments among the edges from which it was merged. With this key, any valid
order of merges gives the same tree, also for equal scores. Edges must be sorted by (u, v), so that the row of a pair is
its key.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroseg.agglomeration.edge_statistics import histograms_of, scores_of_edges, statistics_of
from neuroseg.agglomeration.merging import all_merges
from neuroseg.agglomeration.rounds import merge_in_rounds
from neuroseg.agglomeration.scorings import MEAN, Scoring
from neuroseg.tables import BINS, REGIONS, TREE, Table, empty

Arrays = tuple[NDArray[Any], ...]

# A round of merges costs as much as this number of edges for one merge with a heap.
_EDGES_A_MERGE = 200
# Twice the number of edges must be a number of this type.
_MOST_SMALL_EDGES = 2**30 - 1


def merge_tree(edges: Table, bins: Table, scoring: Scoring) -> Table:
    """Return the merge tree: rows (a, b, score, u, v, link_u, link_v) in merge order, scores ascending.

    `edges` has the columns of tables.EDGES, sorted by (u, v), with unique pairs. `bins` has the columns of tables.BINS.
    Only scorings of every contact need it, complete and sorted.

    a < b: the smallest fragments of the two merged regions. score: 1 - statistic, in [0, 1]. u < v: the largest pair of
    fragments through which the regions touch. link_u < link_v: of these pairs, the one with the largest sum of
    affinities. Without edges the tree is empty.
    """
    return merged_regions(as_regions(edges), scored_bins(edges, bins, scoring), scoring)[0]


def as_regions(edges: Table) -> Table:
    """Return an edge table as edges between regions (tables.REGIONS) of one fragment, whose contacts are all known."""
    u, v, sums = edges["u"], edges["v"], edges["affinity_sum"]
    closed = np.ones(len(u), np.uint8)
    return {
        "u": u, "v": v, "a": u, "b": v, "b_is_closed": closed, "link_u": u, "link_v": v, "link_sum": sums,
        "contact_count": edges["contact_count"], "affinity_sum": sums,
    }  # fmt: skip


def scored_bins(edges: Table, bins: Table, scoring: Scoring) -> Table:
    """Return the histograms that a scoring uses: of every contact, of the largest affinity of each pair, or none."""
    if scoring.percent == MEAN:
        return empty(BINS)
    if scoring.every_contact:
        return bins
    ones = np.ones(len(edges["u"]), np.uint64)
    return {"u": edges["u"], "v": edges["v"], "bin": edges["affinity_max"], "count": ones}


def merged_regions(regions: Table, bins: Table, scoring: Scoring) -> tuple[Table, Table, Table]:
    """Return the merges (columns of tables.TREE), and the edges and histograms that are left, like the arguments.

    `regions` has the columns of tables.REGIONS, `bins` those of tables.BINS with the keys of the edges. Both are sorted
    by (u, v); keys and pairs of regions are unique. A region merges only if all its contacts are known. Without edges,
    all tables are empty. Columns are taken out of `regions` when they are no longer needed.
    """
    if not len(regions["u"]):
        return empty(TREE), empty(REGIONS), empty(BINS)
    ids, ends = _ends_of(regions)
    is_open = np.zeros(len(ids), bool)
    is_open[ends[regions.pop("b_is_closed") == 0, 1]] = True
    statistics = statistics_of(regions, bins, scoring)
    for name in ("a", "b", "contact_count", "affinity_sum"):
        del regions[name]
    keys = np.arange(len(ends)).astype(ends.dtype)
    edges = (ends, scores_of_edges(len(ends), statistics, scoring.percent), keys, keys.copy())
    merges, left = _merged(edges, is_open.copy(), regions, statistics, scoring.percent)
    tree = {
        "a": ids[merges[0]], "b": ids[merges[1]], "score": merges[2],
        "u": regions["u"][merges[3]], "v": regions["v"][merges[3]],
        "link_u": regions["link_u"][merges[4]], "link_v": regions["link_v"][merges[4]],
    }  # fmt: skip
    rest = _left_edges(left, edges, regions, (ids, is_open), statistics)
    return tree, rest, _left_bins(left, rest, statistics, scoring)


def _ends_of(regions: Table) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the names of all regions, ascending, and the indices `(n, 2)` of the two regions of each edge."""
    ids = _distinct(np.sort(np.concatenate([_distinct(regions["a"]), regions["b"]])))
    index = np.int32 if len(regions["u"]) <= _MOST_SMALL_EDGES else np.int64
    ends = np.empty((len(regions["u"]), 2), index)
    ends[:, 0], ends[:, 1] = np.searchsorted(ids, regions["a"]), np.searchsorted(ids, regions["b"])
    return ids, ends


def _merged(
    edges: Arrays, is_open: NDArray[np.bool_], regions: Table, statistics: Arrays, percent: int
) -> tuple[list[NDArray[Any]], NDArray[np.int64]]:
    """Return the merges by (score, key), and the rows of the edges that are left, by key. All arguments are changed."""
    contacts = (regions["link_sum"], regions["link_u"], regions["link_v"])
    made, active, waiting = merge_in_rounds(edges, is_open, contacts, statistics, percent, _EDGES_A_MERGE)
    rest, sums = tuple(column[active] for column in edges), _rows_of(statistics, active, percent)
    order = np.lexsort((rest[2], rest[1])).astype(active.dtype)
    more, left = all_merges(rest, is_open, order, contacts, sums, percent)
    for column, changed in zip((*edges, *statistics[:3]), (*rest, *sums[:3]), strict=True):
        if len(column):
            column[active[left]] = changed[left]
    merges = [np.concatenate(pair) for pair in zip(made, more, strict=True)]
    by_rank = np.lexsort((merges[3], merges[2]))
    rows = np.concatenate([waiting, active[left]])
    return [column[by_rank] for column in merges], rows[np.argsort(edges[2][rows])]


def _rows_of(statistics: Arrays, rows: NDArray[np.int64], percent: int) -> Arrays:
    """Return the statistics of some edges. Their histograms stay where they are."""
    sums, contacts, heads, *entries = statistics
    return (sums[rows], contacts[rows], heads if percent == MEAN else heads[rows], *entries)


def edge_scores(edges: Table, bins: Table, scoring: Scoring) -> NDArray[np.float64]:
    """Return the score `(n,)` of each edge before any merge, 1 - statistic. Tables as in `merge_tree`."""
    statistics = statistics_of(edges, scored_bins(edges, bins, scoring), scoring)
    scores: NDArray[np.float64] = scores_of_edges(len(edges["u"]), statistics, scoring.percent)
    return scores


def _left_edges(
    rows: NDArray[np.int64],
    edges: Arrays,
    regions: Table,
    names: tuple[NDArray[np.uint64], NDArray[np.bool_]],
    statistics: Arrays,
) -> Table:
    """Return some edges with their current regions, keys, links and sums. Region a is closed.

    `names`: the names of the regions, and whether they are open.
    """
    (ids, is_open), (ends, _, keys, links), (sums, contacts, *_) = names, edges, statistics
    one, other, key, link = ends[rows, 0], ends[rows, 1], keys[rows], links[rows]
    a, b = np.where(is_open[one], other, one), np.where(is_open[one], one, other)
    return {
        "u": regions["u"][key], "v": regions["v"][key],
        "a": ids[a], "b": ids[b], "b_is_closed": (~is_open[b]).astype(np.uint8),
        "link_u": regions["link_u"][link], "link_v": regions["link_v"][link], "link_sum": regions["link_sum"][link],
        "contact_count": contacts[rows].astype(np.uint64), "affinity_sum": sums[rows].astype(np.uint64),
    }  # fmt: skip


def _left_bins(rows: NDArray[np.int64], edges: Table, statistics: Arrays, scoring: Scoring) -> Table:
    """Return the histograms of the edges `rows`, whose keys are in `edges`."""
    if scoring.percent == MEAN:
        return empty(BINS)
    lengths, values, counts = histograms_of(rows, statistics)
    u, v = np.repeat(edges["u"], lengths), np.repeat(edges["v"], lengths)
    return {"u": u, "v": v, "bin": values, "count": counts.astype(np.uint64)}


def _distinct(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the values of a column without those that equal the value before."""
    distinct: NDArray[np.uint64] = values[np.append(True, values[1:] != values[:-1])]
    return distinct

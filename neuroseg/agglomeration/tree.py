"""Edge table -> merge tree, by repeatedly merging the edge with the smallest (score, key).

The key of an edge is the largest pair of fragments among the edges from which it was merged. With this key, any valid
order of merges gives the same tree, also for equal scores. Edges must be sorted by (u, v), so that the row of a pair is
its key.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuroseg.agglomeration.edge_statistics import histograms_of, scores_of_edges, statistics_of
from neuroseg.agglomeration.merging import all_merges
from neuroseg.agglomeration.scorings import MEAN, Scoring
from neuroseg.tables import BINS, REGIONS, TREE, Table, empty

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
    all tables are empty.
    """
    if not len(regions["u"]):
        return empty(TREE), empty(REGIONS), empty(BINS)
    ids = np.union1d(_distinct(regions["a"]), regions["b"])
    index = np.int32 if len(regions["u"]) <= _MOST_SMALL_EDGES else np.int64
    ends = np.empty((len(regions["u"]), 2), index)
    ends[:, 0], ends[:, 1] = np.searchsorted(ids, regions["a"]), np.searchsorted(ids, regions["b"])
    is_open = np.zeros(len(ids), bool)
    is_open[ends[regions["b_is_closed"] == 0, 1]] = True
    statistics = statistics_of(regions, bins, scoring)
    scores = scores_of_edges(len(ends), statistics, scoring.percent)
    order = np.argsort(scores, kind="stable").astype(index)
    contacts = (regions["link_sum"], regions["link_u"], regions["link_v"])
    made, left, keys, links = all_merges(ends, is_open.copy(), order, scores, contacts, statistics, scoring.percent)
    a, b, merged_scores, merged_keys, merged_links = made
    tree = {
        "a": ids[a], "b": ids[b], "score": merged_scores,
        "u": regions["u"][merged_keys], "v": regions["v"][merged_keys],
        "link_u": regions["link_u"][merged_links], "link_v": regions["link_v"][merged_links],
    }  # fmt: skip
    by_key = np.argsort(keys)
    rows, keys, links = left[by_key], keys[by_key], links[by_key]
    edges = _left_edges(rows, keys, links, regions, (ids, ends, is_open), (statistics[0], statistics[1]))
    return tree, edges, _left_bins(rows, edges, statistics, scoring)


def edge_scores(edges: Table, bins: Table, scoring: Scoring) -> NDArray[np.float64]:
    """Return the score `(n,)` of each edge before any merge, 1 - statistic. Tables as in `merge_tree`."""
    statistics = statistics_of(edges, scored_bins(edges, bins, scoring), scoring)
    scores: NDArray[np.float64] = scores_of_edges(len(edges["u"]), statistics, scoring.percent)
    return scores


def _left_edges(
    rows: NDArray[np.int64],
    keys: NDArray[np.int64],
    links: NDArray[np.int64],
    regions: Table,
    ends: tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.bool_]],
    sums: tuple[NDArray[np.float64], NDArray[np.int64]],
) -> Table:
    """Return the edges `rows` with the current regions, keys, links and sums. Region a is closed.

    `ends`: names of regions, the two regions of each edge, and whether each region is open.
    """
    ids, pairs, is_open = ends
    one, other = pairs[rows, 0], pairs[rows, 1]
    a, b = np.where(is_open[one], other, one), np.where(is_open[one], one, other)
    return {
        "u": regions["u"][keys], "v": regions["v"][keys],
        "a": ids[a], "b": ids[b], "b_is_closed": (~is_open[b]).astype(np.uint8),
        "link_u": regions["link_u"][links], "link_v": regions["link_v"][links],
        "link_sum": regions["link_sum"][links],
        "contact_count": sums[1][rows].astype(np.uint64), "affinity_sum": sums[0][rows].astype(np.uint64),
    }  # fmt: skip


def _left_bins(
    rows: NDArray[np.int64], edges: Table, statistics: tuple[NDArray[np.generic], ...], scoring: Scoring
) -> Table:
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

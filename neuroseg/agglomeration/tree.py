"""Edge table -> merge tree, by repeatedly merging the edge with the smallest (score, key).

The key of an edge is the largest pair of fragments among the edges from which it was merged. With this key, any valid
order of merges gives the same tree, also for equal scores. Edges must be sorted by (u, v), so that the row of a pair is
its key.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroseg.agglomeration.chains import merge_along_chains
from neuroseg.agglomeration.edge_statistics import (
    NO_HISTOGRAMS,
    Arrays,
    histograms_of,
    scores_of_edges,
    statistics_of,
)
from neuroseg.agglomeration.ordering import index_type, row_order
from neuroseg.agglomeration.region_rows import (
    Parts,
    RegionRows,
    in_memory,
    read_columns,
    read_histograms,
    region_rows,
)
from neuroseg.agglomeration.scorings import MEAN, Scoring
from neuroseg.tables import BINS, REGIONS, TREE, Allocate, Table, empty

# Other numbers give the same tree.
_HUB_EDGES = 512
_WIDTH = 16384


def merge_tree(edges: Table, bins: Table, scoring: Scoring) -> Table:
    """Return the merge tree: rows (a, b, score, u, v, link_u, link_v) in merge order, scores ascending.

    `edges` has the columns of tables.EDGES, sorted by (u, v), with unique pairs. `bins` has the columns of tables.BINS.
    Only scorings of every contact need it, complete and sorted.

    a < b: the smallest fragments of the two merged regions. score: 1 - statistic, in [0, 1]. u < v: the largest pair of
    fragments through which the regions touch. link_u < link_v: of these pairs, the one with the largest sum of
    affinities. Without edges the tree is empty.
    """
    regions, bins = as_regions(edges), scored_bins(edges, bins, scoring)
    return merged_regions(in_memory([regions]), in_memory([bins]), scoring)[0]


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


def merged_regions(
    regions: Parts, bins: Parts, scoring: Scoring, new: Allocate = np.empty
) -> tuple[Table, Table, Table]:
    """Return the merges (columns of tables.TREE), and the edges and histograms that are left, like the arguments.

    `regions` has the columns of tables.REGIONS, `bins` those of tables.BINS with the keys of the edges. Keys and pairs
    of regions are unique. A region merges only if all its contacts are known. Without edges, all tables are empty. The
    results are sorted by (score, u, v), by (u, v), and by (u, v, bin). `new` allocates arrays with a value per edge.
    """
    if not regions.count():
        return empty(TREE), empty(REGIONS), empty(BINS)
    rows, edges = region_rows(regions, new)
    statistics, is_open = _read_statistics(regions, bins, rows, scoring, new), rows.is_open.copy()
    (first, second, scores, keys, links), left = _merged(edges, rows.is_open, statistics, scoring.percent, new)
    rest, sums, contacts = edges[left], statistics[0][left], statistics[1][left]
    histograms = histograms_of(left, statistics) if scoring.percent != MEAN else None
    del edges, statistics
    named = _fragments(np.append(keys, rest["key"]), np.append(links, rest["link"]), rows, regions, new)
    of_rest = {name: column[len(keys) :] for name, column in named.items()}
    of_tree = {name: column[: len(keys)] for name, column in named.items()}
    tree = {**of_tree, "a": rows.names[first], "b": rows.names[second], "score": scores}
    table = {
        **of_rest, **_ends(rest["ends"], is_open, rows.names),
        "contact_count": contacts.astype(np.uint64), "affinity_sum": sums.astype(np.uint64),
    }  # fmt: skip
    bins_left = _bins(table, histograms)
    return {name: tree[name] for name in TREE}, {name: table[name] for name in REGIONS}, bins_left


def _read_statistics(regions: Parts, bins: Parts, rows: RegionRows, scoring: Scoring, new: Allocate) -> Arrays:
    (counts,) = read_columns(regions, {"contact_count": np.int64}, new, rows.place)
    contacts = new(len(counts), index_type(counts.sum()))
    contacts[:] = counts
    del counts
    (sums,) = read_columns(regions, {"affinity_sum": np.float64}, new, rows.place)
    histograms = read_histograms(bins, new) if scoring.percent != MEAN else NO_HISTOGRAMS
    return statistics_of(sums, contacts, histograms, scoring.percent, new)


def _merged(
    edges: NDArray[Any], is_open: NDArray[np.bool_], statistics: Arrays, percent: int, new: Allocate
) -> tuple[list[NDArray[Any]], NDArray[Any]]:
    """Return the merges by (score, key), and the numbers of the edges left, by key. All arguments are changed."""
    made, left = merge_along_chains(edges, is_open, statistics, percent, _HUB_EDGES, _WIDTH, new)
    by_rank = row_order(made[2], made[3])
    return [column[by_rank] for column in made], left[row_order(edges["key"][left])]


def _fragments(keys: NDArray[Any], links: NDArray[Any], rows: RegionRows, regions: Parts, new: Allocate) -> Table:
    """Return the fragments that some keys and links stand for, and the sums of the links."""
    found: Table = {}
    of_links = rows.by_rank[links]
    for name in ("u", "v", "link_u", "link_v", "link_sum"):
        (column,) = read_columns(regions, {name: REGIONS[name]}, new, rows.place)
        found[name] = column[keys if name in ("u", "v") else of_links]
    return found


def _ends(ends: NDArray[Any], is_open: NDArray[np.bool_], names: NDArray[np.uint64]) -> Table:
    """Return the regions of edges. Region a is closed."""
    one, other = ends.T
    b = np.where(is_open[one], one, other)
    return {"a": names[one + other - b], "b": names[b], "b_is_closed": (~is_open[b]).astype(np.uint8)}


def _bins(edges: Table, histograms: tuple[NDArray[Any], ...] | None) -> Table:
    """Return the histograms of edges as a table."""
    if histograms is None:
        return empty(BINS)
    lengths, values, counts = histograms
    u, v = np.repeat(edges["u"], lengths), np.repeat(edges["v"], lengths)
    return {"u": u, "v": v, "bin": values, "count": counts.astype(np.uint64)}


def edge_scores(edges: Table, bins: Table, scoring: Scoring) -> NDArray[np.float64]:
    """Return the score `(n,)` of each edge before any merge, 1 - statistic. Tables as in `merge_tree`."""
    bins = scored_bins(edges, bins, scoring)
    histograms = read_histograms(in_memory([bins])) if scoring.percent != MEAN else NO_HISTOGRAMS
    sums, contacts = edges["affinity_sum"].astype(np.float64), edges["contact_count"].astype(np.int64)
    statistics = statistics_of(sums, contacts, histograms, scoring.percent)
    scores: NDArray[np.float64] = scores_of_edges(statistics, scoring.percent)
    return scores

"""Edge table -> merge tree, by repeatedly merging the edge with the smallest (score, key).

The key of an edge is the largest pair of fragments among the edges from which it was merged. With this key, any valid
order of merges gives the same tree, also for equal scores. Edges must be sorted by (u, v), so that the row of a pair is
its key.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuroseg.agglomeration.edge_statistics import scores_of_edges, statistics_of
from neuroseg.agglomeration.merging import all_merges
from neuroseg.agglomeration.scorings import Scoring
from neuroseg.tables import TREE, Table, empty

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
    if not len(edges["u"]):
        return empty(TREE)
    ids = np.union1d(_distinct(edges["u"]), edges["v"])
    index = np.int32 if len(edges["u"]) <= _MOST_SMALL_EDGES else np.int64
    ends = np.empty((len(edges["u"]), 2), index)
    ends[:, 0], ends[:, 1] = np.searchsorted(ids, edges["u"]), np.searchsorted(ids, edges["v"])
    statistics = statistics_of(edges, bins, scoring)
    scores = scores_of_edges(len(ends), statistics, scoring.percent)
    order = np.argsort(scores, kind="stable").astype(index)
    strengths = edges["affinity_sum"]
    a, b, merged_scores, keys, links = all_merges(ends, len(ids), order, scores, strengths, statistics, scoring.percent)
    return {
        "a": ids[a], "b": ids[b], "score": merged_scores, "u": edges["u"][keys], "v": edges["v"][keys],
        "link_u": edges["u"][links], "link_v": edges["v"][links],
    }  # fmt: skip


def edge_scores(edges: Table, bins: Table, scoring: Scoring) -> NDArray[np.float64]:
    """Return the score `(n,)` of each edge before any merge, 1 - statistic. Tables as in `merge_tree`."""
    statistics = statistics_of(edges, bins, scoring)
    scores: NDArray[np.float64] = scores_of_edges(len(edges["u"]), statistics, scoring.percent)
    return scores


def _distinct(ascending: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the distinct values of a column that ascends."""
    distinct: NDArray[np.uint64] = ascending[np.append(True, ascending[1:] != ascending[:-1])]
    return distinct

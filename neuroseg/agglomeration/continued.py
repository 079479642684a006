"""A partition of the fragments -> a merge tree that makes it first and goes on by the scoring.

So that a partition made by another method is looked up, relabelled and rid of small segments like any other.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from neuroseg.agglomeration.partition import root
from neuroseg.agglomeration.scorings import Scoring
from neuroseg.agglomeration.tree import merge_tree
from neuroseg.kernels import compiled
from neuroseg.tables import BINS, EDGES, TREE, Table, combined, concatenated


def continued_tree(
    parts: NDArray[np.int64],
    fragments: NDArray[np.uint64],
    edges: Table,
    bins: Table,
    scoring: Scoring,
    *,
    threshold: float,
) -> Table:
    """Return the tree (columns of tables.TREE) that `threshold` cuts into `parts`.

    `parts` `(n,)` says which part each of `fragments` (ascending, unique) belongs to. First come the rows that join a
    part's fragments, score 0; fragments of one part that no edges connect stay apart. Then come the merges of the
    parts by `scoring`, their scores raised to `threshold` where they are below it.
    """
    u, v = np.searchsorted(fragments, edges["u"]), np.searchsorted(fragments, edges["v"])
    within = np.flatnonzero(parts[u] == parts[v])
    smallest, one, other, rows = _joined(u[within], v[within], np.arange(len(fragments)))
    inner: Table = {
        "a": fragments[one],
        "b": fragments[other],
        "score": np.zeros(len(rows), np.float64),
        "u": edges["u"][within[rows]],
        "v": edges["v"][within[rows]],
    }
    named = fragments[smallest]
    outer = merge_tree(_contracted(edges, fragments, named, EDGES), _contracted(bins, fragments, named, BINS), scoring)
    outer["score"] = np.maximum(outer["score"], threshold)
    return concatenated([inner, outer], TREE)


def _contracted(
    table: Table, fragments: NDArray[np.uint64], named: NDArray[np.uint64], columns: Mapping[str, type[np.generic]]
) -> Table:
    """Return the rows of an edge or bin table between regions, `named` after their smallest fragment."""
    u, v = (named[np.searchsorted(fragments, table[end])] for end in ("u", "v"))
    between = u != v
    rows = {name: column[between] for name, column in table.items()}
    ends = {"u": np.minimum(u, v)[between], "v": np.maximum(u, v)[between]}
    return combined([{**rows, **ends}], columns)


@compiled
def _joined(u, v, parents):  # type: ignore[no-untyped-def]
    """Join the ends of every edge: the smallest node of each node's region, and (a, b, edge) of the joins made."""
    ones, others, rows = np.empty(len(u), np.int64), np.empty(len(u), np.int64), np.empty(len(u), np.int64)
    made = 0
    for edge in range(len(u)):
        one, other = root(parents, u[edge]), root(parents, v[edge])
        if one == other:
            continue
        low, high = min(one, other), max(one, other)
        parents[high] = low
        ones[made], others[made], rows[made] = low, high, edge
        made += 1
    for node in range(len(parents)):
        parents[node] = root(parents, node)
    return parents, ones[:made], others[:made], rows[:made]

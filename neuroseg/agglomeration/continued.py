"""A partition of the fragments -> a merge tree that contains it, followed by merges according to the scoring.

With the tree, later stages handle the partition of another method like any other: lookup, relabelling, small segments.
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
    """Return the tree (columns of tables.TREE) that gives `parts` at `threshold`.

    `parts` `(n,)`: the part of each of `fragments` (ascending, unique). The first rows merge the fragments of each part
    with score 0. Fragments of a part without a connecting path of edges are not merged. The next rows merge the parts
    by `scoring`, with a score of at least `threshold`.
    """
    u, v = np.searchsorted(fragments, edges["u"]), np.searchsorted(fragments, edges["v"])
    within = np.flatnonzero(parts[u] == parts[v])
    smallest, one, other, rows = _merged_within(u[within], v[within], np.arange(len(fragments)))
    inner: Table = {
        "a": fragments[one],
        "b": fragments[other],
        "score": np.zeros(len(rows), np.float64),
        "u": edges["u"][within[rows]],
        "v": edges["v"][within[rows]],
        "link_u": edges["u"][within[rows]],
        "link_v": edges["v"][within[rows]],
    }
    named = fragments[smallest]
    outer = merge_tree(_contracted(edges, fragments, named, EDGES), _contracted(bins, fragments, named, BINS), scoring)
    outer["score"] = np.maximum(outer["score"], threshold)
    return concatenated([inner, outer], TREE)


def _contracted(
    table: Table, fragments: NDArray[np.uint64], named: NDArray[np.uint64], columns: Mapping[str, type[np.generic]]
) -> Table:
    """Return the rows of an edge or bin table between regions. `named`: the smallest fragment of each region."""
    u, v = (named[np.searchsorted(fragments, table[end])] for end in ("u", "v"))
    between = u != v
    rows = {name: column[between] for name, column in table.items()}
    ends = {"u": np.minimum(u, v)[between], "v": np.maximum(u, v)[between]}
    return combined([{**rows, **ends}], columns)


@compiled
def _merged_within(u, v, parents):  # type: ignore[no-untyped-def]
    """Merge the ends of every edge. Return the smallest node of each node's region, and (a, b, edge) of the merges."""
    ones, others, rows = np.empty(len(u), np.int64), np.empty(len(u), np.int64), np.empty(len(u), np.int64)
    merges = 0
    for edge in range(len(u)):
        one, other = root(parents, u[edge]), root(parents, v[edge])
        if one == other:
            continue
        low, high = min(one, other), max(one, other)
        parents[high] = low
        ones[merges], others[merges], rows[merges] = low, high, edge
        merges += 1
    for node in range(len(parents)):
        parents[node] = root(parents, node)
    return parents, ones[:merges], others[:merges], rows[:merges]

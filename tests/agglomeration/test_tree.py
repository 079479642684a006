"""The merge tree: by hand on four nodes, and compared with greedy merging on graphs with many ties."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroseg.agglomeration.partition import segment_lookup
from neuroseg.agglomeration.scorings import parse_scoring
from neuroseg.agglomeration.tree import merge_tree
from neuroseg.tables import TREE, Table

pytestmark = pytest.mark.usefixtures("kernels")
SCORINGS = ["mean", "quantile:50", "quantile:50:all", "quantile:25", "quantile:75:all", "quantile:99", "quantile:1:all"]


def rows_of(tree: Table) -> list[tuple]:  # type: ignore[type-arg]
    """The rows of a tree as plain numbers."""
    return list(zip(tree["a"].tolist(), tree["b"].tolist(), tree["score"].tolist(), strict=True))


def value(affinity: int) -> float:
    """The score of a quantile that falls into this bin."""
    return 1 - (affinity + 0.5) / 256


def test_mean_on_four_nodes(tables_from: Callable) -> None:
    # Means .9 .8 0 .5; once 1 and 2 are one, their edge to 3 has 204 over 4 contacts: .2.
    edges, bins = tables_from({(1, 2): {229: 5, 230: 5}, (2, 3): {204: 1}, (1, 3): {0: 3}, (3, 4): {0: 1, 255: 1}})
    tree = merge_tree(edges, bins, parse_scoring("mean"))
    assert [row[:2] for row in rows_of(tree)] == [(1, 2), (3, 4), (1, 3)]
    np.testing.assert_allclose(tree["score"], [0.1, 0.5, 0.8])
    assert {name: column.dtype for name, column in tree.items()} == {n: np.dtype(d) for n, d in TREE.items()}


FOUR = {(1, 2): {250: 1}, (1, 3): {10: 2, 200: 1}, (2, 3): {100: 1}, (3, 4): {150: 1}}


@pytest.mark.parametrize(
    ("scoring", "expected"),
    [
        # Largest affinities 200 and 100 between 1+2 and 3: the second of two is the upper median.
        ("quantile:50", [(1, 2, 250), (1, 3, 200), (1, 4, 150)]),
        ("quantile:49", [(1, 2, 250), (3, 4, 150), (1, 3, 100)]),
        # All of them, 10 10 100 200: the pivot of 50 % is the third, of 75 % the fourth, of 49 % the second.
        ("quantile:50:all", [(1, 2, 250), (3, 4, 150), (1, 3, 100)]),
        ("quantile:75:all", [(1, 2, 250), (1, 3, 200), (1, 4, 150)]),
        ("quantile:49:all", [(1, 2, 250), (3, 4, 150), (1, 3, 10)]),
    ],
)
def test_quantiles_on_four_nodes(tables_from: Callable, scoring: str, expected: list[tuple[int, int, int]]) -> None:
    tree = merge_tree(*tables_from(FOUR), parse_scoring(scoring))
    assert rows_of(tree) == [(a, b, value(affinity)) for a, b, affinity in expected]


def test_ties_go_to_the_smaller_of_the_largest_fragment_pairs(tables_from: Callable) -> None:
    edges, bins = tables_from({(1, 2): {9: 1}, (1, 4): {9: 1}, (2, 3): {9: 1}, (3, 4): {9: 1}})
    # After 1+2: its edges to 4 (key 1, 4) and to 3 (key 2, 3); after 1+2+4 one edge to 3 is left.
    expected = [(1, 2, value(9)), (1, 4, value(9)), (1, 3, value(9))]
    assert rows_of(merge_tree(edges, bins, parse_scoring("quantile:50"))) == expected


def test_a_merged_edges_key_is_its_largest_pair(tables_from: Callable) -> None:
    # After 1+2 its edge to 5 is (1, 5) with (2, 5), key (2, 5): the edge (1, 6) of the same score goes first.
    edges, bins = tables_from({(1, 2): {200: 1}, (1, 5): {9: 1}, (2, 5): {9: 1}, (1, 6): {9: 1}})
    merges = [row[:2] for row in rows_of(merge_tree(edges, bins, parse_scoring("mean")))]
    assert merges == [(1, 2), (1, 6), (1, 5)]


@pytest.mark.parametrize("scoring", SCORINGS)
def test_no_edges_give_an_empty_tree(tables_from: Callable, scoring: str) -> None:
    tree = merge_tree(*tables_from({}), parse_scoring(scoring))
    assert {name: (c.dtype, len(c)) for name, c in tree.items()} == {n: (np.dtype(d), 0) for n, d in TREE.items()}


@pytest.mark.parametrize("scoring", SCORINGS)
def test_input_tables_do_not_change(tables_from: Callable, scoring: str) -> None:
    edges, bins = tables_from(FOUR)
    before = {name: column.copy() for name, column in (edges | bins).items()}
    merge_tree(edges, bins, parse_scoring(scoring))
    for name, column in (edges | bins).items():
        np.testing.assert_array_equal(column, before[name])


graphs = st.tuples(
    st.integers(0, 2**32 - 1),
    st.integers(2, 14),
    st.sampled_from([0.15, 0.4, 1.0]),
    st.sampled_from([[7], [0, 128, 255], list(range(256))]),
)


@settings(max_examples=120)
@given(graph=graphs, scoring=st.sampled_from(SCORINGS))
def test_the_tree_is_that_of_greedy_merging(
    graph_of: Callable, slow_greedy: Callable, tables_from: Callable, graph: tuple, scoring: str
) -> None:
    seed, *parameters = graph
    histograms = graph_of(np.random.default_rng(seed), *parameters)
    expected, _ = slow_greedy(histograms, parse_scoring(scoring))
    assert rows_of(merge_tree(*tables_from(histograms), parse_scoring(scoring))) == expected


@settings(max_examples=25)
@given(graph=graphs, scoring=st.sampled_from(SCORINGS))
def test_the_tree_gives_the_partition_of_every_threshold(
    graph_of: Callable, slow_greedy: Callable, tables_from: Callable, nodes_from: Callable, graph: tuple, scoring: str
) -> None:
    seed, *parameters = graph
    histograms = graph_of(np.random.default_rng(seed), *parameters)
    tree = merge_tree(*tables_from(histograms), parse_scoring(scoring))
    nodes = nodes_from({f: 1 for pair in histograms for f in pair})
    # At a score itself, just above it and away from all: merging stops before the score that equals the threshold.
    thresholds = np.unique(np.concatenate([tree["score"], np.nextafter(tree["score"], 2), [0.0, 0.3, 1.1]]))
    for threshold, rows in zip(thresholds, np.searchsorted(tree["score"], thresholds).tolist(), strict=True):
        merged, regions = slow_greedy(histograms, parse_scoring(scoring), threshold)
        lookup = segment_lookup(tree, nodes, threshold=threshold)
        found = {
            frozenset(lookup["fragment"][lookup["segment"] == segment].tolist())
            for segment in np.unique(lookup["segment"])
        }
        assert found == {frozenset(region) for region in regions}
        assert len(merged) == rows


@pytest.mark.parametrize("scoring", SCORINGS)
@pytest.mark.parametrize(("nodes", "density"), [(45, 1.0), (70, 0.1)])
def test_larger_graphs_give_the_same_tree(
    graph_of: Callable, slow_greedy: Callable, tables_from: Callable, nodes: int, density: float, scoring: str
) -> None:
    histograms = graph_of(np.random.default_rng(nodes), nodes, density, [0, 3, 128, 254, 255])
    expected, _ = slow_greedy(histograms, parse_scoring(scoring))
    assert rows_of(merge_tree(*tables_from(histograms), parse_scoring(scoring))) == expected


@pytest.mark.parametrize("scoring", ["mean", "quantile:50:all"])
def test_repeatedly_doubled_regions_give_the_same_tree(
    slow_greedy: Callable, tables_from: Callable, scoring: str
) -> None:
    # Neighbours merge first, then pairs of pairs. Most edges are moved in each of eight rounds, so the internal hash
    # table fills up and is rebuilt.
    rng = np.random.default_rng(0)
    histograms = {}
    for level in range(8):
        for begin in range(0, 256, 2 << level):
            histograms[begin + 1, begin + (1 << level) + 1] = {255 - level: 30}
    while len(histograms) < 1024:
        u, v = sorted(rng.choice(256, 2, replace=False).tolist())
        histograms.setdefault((u + 1, v + 1), {int(rng.integers(0, 9)): 1})
    expected, _ = slow_greedy(histograms, parse_scoring(scoring))
    assert rows_of(merge_tree(*tables_from(histograms), parse_scoring(scoring))) == expected


@pytest.mark.parametrize("scoring", SCORINGS)
def test_scores_never_decrease_and_every_component_becomes_one(
    graph_of: Callable, tables_from: Callable, scoring: str
) -> None:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    histograms = graph_of(np.random.default_rng(5), 900, 0.006, list(range(256)), most_contacts=20)
    edges, bins = tables_from(histograms)
    tree = merge_tree(edges, bins, parse_scoring(scoring))
    assert (np.diff(tree["score"]) >= 0).all()
    ids, rows = np.unique(np.concatenate([edges["u"], edges["v"]]), return_inverse=True)
    u, v = rows.reshape(2, -1)
    components, _ = connected_components(coo_array((np.ones(len(u)), (u, v)), shape=(len(ids),) * 2))
    assert len(tree["a"]) == len(ids) - components
    assert (tree["a"] < tree["b"]).all()
    # A region is named by its smallest fragment, so each other fragment is merged into a region exactly once.
    assert len(np.unique(tree["b"])) == len(tree["b"])


@pytest.mark.parametrize("name", ["mean", "quantile:50", "quantile:50:all"])
@given(seed=st.integers(0, 2**32 - 1), nodes=st.integers(2, 14), density=st.floats(0.2, 1))
def test_a_row_is_linked_by_the_strongest_contact_of_its_regions(
    tables_from: Callable, graph_of: Callable, name: str, seed: int, nodes: int, density: float
) -> None:
    graph = graph_of(np.random.default_rng(seed), nodes, density, [3, 100, 200])
    edges, bins = tables_from(graph)
    tree = merge_tree(edges, bins, parse_scoring(name))
    region = {fragment: {fragment} for pair in graph for fragment in pair}
    for a, b, link in zip(tree["a"], tree["b"], zip(tree["link_u"], tree["link_v"], strict=True), strict=True):
        one, other = region[int(a)], region[int(b)]
        between = [(u, v) for u, v in graph if (u in one and v in other) or (v in one and u in other)]
        strongest = max(between, key=lambda pair: (sum(value * n for value, n in graph[pair].items()), pair))
        assert tuple(map(int, link)) == strongest
        for fragment in one | other:
            region[fragment] = one | other

"""A partition as a merge tree: the threshold gives the partition, and small segments are merged further."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroseg.agglomeration.continued import continued_tree
from neuroseg.agglomeration.partition import segment_lookup
from neuroseg.agglomeration.scorings import parse_scoring
from neuroseg.tables import BINS, EDGES, TREE, empty

SCORINGS = ["mean", "quantile:50", "quantile:75:all"]


def test_a_hand_made_partition_comes_first_then_the_best_merge(tables_from: Callable, nodes_from: Callable) -> None:
    edges, bins = tables_from({(1, 2): {0: 1}, (2, 3): {255: 1}, (3, 4): {51: 1}, (1, 4): {102: 3}})
    ids = np.array([1, 2, 3, 4], np.uint64)
    # 1 and 2 are joined against their edge, 2 and 3 kept apart against theirs.
    tree = continued_tree(np.array([7, 7, 5, 9]), ids, edges, bins, parse_scoring("mean"), threshold=0.5)
    assert list(zip(tree["a"].tolist(), tree["b"].tolist(), strict=True)) == [(1, 2), (1, 3), (1, 4)]
    assert tree["score"].tolist() == pytest.approx([0, 0.5, 1 - (51 + 3 * 102) / (4 * 255)])
    nodes = nodes_from({1: 5, 2: 1, 3: 1, 4: 9})
    assert segment_lookup(tree, nodes, threshold=0.5)["segment"].tolist() == [1, 1, 2, 3]
    assert segment_lookup(tree, nodes, threshold=0.5, min_size_voxels=2)["segment"].tolist() == [1, 1, 1, 2]
    dropped = segment_lookup(tree, nodes, threshold=0.5, min_size_voxels=2, small="drop")
    assert dropped["segment"].tolist() == [1, 1, 0, 2]


def test_fragments_of_one_part_that_do_not_touch_stay_apart(tables_from: Callable, nodes_from: Callable) -> None:
    edges, bins = tables_from({(1, 2): {9: 1}})
    tree = continued_tree(
        np.zeros(3, np.int64), np.array([1, 2, 3], np.uint64), edges, bins, parse_scoring("mean"), threshold=0.5
    )
    assert segment_lookup(tree, nodes_from({1: 1, 2: 1, 3: 1}), threshold=0.5)["segment"].tolist() == [1, 1, 2]


def test_no_edges_give_an_empty_tree() -> None:
    ids = np.array([4], np.uint64)
    tree = continued_tree(np.zeros(1, np.int64), ids, empty(EDGES), empty(BINS), parse_scoring("mean"), threshold=0.5)
    assert {name: len(column) for name, column in tree.items()} == dict.fromkeys(TREE, 0)


@given(seed=st.integers(0, 2**32 - 1), scoring=st.sampled_from(SCORINGS), parts=st.integers(1, 8))
def test_the_threshold_gives_the_partition_back(
    graph_of: Callable, tables_from: Callable, nodes_from: Callable, seed: int, scoring: str, parts: int
) -> None:
    rng = np.random.default_rng(seed)
    graph = graph_of(rng, 10, 0.35, [0, 40, 128, 200, 255])
    edges, bins = tables_from(graph)
    ids = np.unique(np.concatenate([edges["u"], edges["v"], [np.uint64(2**41)]]))
    drawn = rng.integers(0, parts, len(ids))
    tree = continued_tree(drawn, ids, edges, bins, parse_scoring(scoring), threshold=0.3)
    assert (np.diff(tree["score"]) >= 0).all()
    assert (tree["a"] < tree["b"]).all()
    assert len(tree["a"]) < len(ids)
    segments = segment_lookup(tree, nodes_from(dict.fromkeys(ids.tolist(), 1)), threshold=0.3)["segment"]
    # The parts of the partition, each cut where no edge connects it.
    smallest = np.arange(len(ids))
    for _ in ids:
        for u, v in graph:
            one, other = np.searchsorted(ids, [u, v])
            if drawn[one] == drawn[other]:
                smallest[one] = smallest[other] = min(smallest[one], smallest[other])
    assert [segments.tolist().index(segment) for segment in segments.tolist()] == smallest.tolist()
    whole = segment_lookup(tree, nodes_from(dict.fromkeys(ids.tolist(), 1)), threshold=2.0)["segment"]
    assert len(set(whole.tolist())) == len(ids) - len(tree["a"])

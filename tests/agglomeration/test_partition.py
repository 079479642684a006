"""The segments at a threshold: their ids, and the treatment of small segments."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from neuroseg.agglomeration.partition import segment_lookup
from neuroseg.agglomeration.scorings import parse_scoring
from neuroseg.agglomeration.tree import merge_tree
from neuroseg.tables import LOOKUP, Table, empty


def tree_of(*rows: tuple[int, int, float]) -> Table:
    """A merge tree from rows (a, b, score) of regions whose smallest fragments touch."""
    return {
        "a": np.array([row[0] for row in rows], np.uint64),
        "b": np.array([row[1] for row in rows], np.uint64),
        "score": np.array([row[2] for row in rows], np.float64),
        "u": np.array([row[0] for row in rows], np.uint64),
        "v": np.array([row[1] for row in rows], np.uint64),
        "link_u": np.array([row[0] for row in rows], np.uint64),
        "link_v": np.array([row[1] for row in rows], np.uint64),
    }


def segments_of(lookup: Table) -> dict[int, int]:
    """Fragment -> segment."""
    assert {name: column.dtype for name, column in lookup.items()} == {n: np.dtype(d) for n, d in LOOKUP.items()}
    return dict(zip(lookup["fragment"].tolist(), lookup["segment"].tolist(), strict=True))


def test_segments_are_numbered_by_their_smallest_fragment(nodes_from: Callable) -> None:
    tree = tree_of((30, 40, 0.1), (10, 50, 0.2), (10, 20, 0.9))
    nodes = nodes_from({10: 1, 20: 1, 30: 1, 40: 1, 50: 1, 60: 1})
    assert segments_of(segment_lookup(tree, nodes, threshold=0.5)) == {10: 1, 20: 2, 30: 3, 40: 3, 50: 1, 60: 4}


def test_a_score_that_equals_the_threshold_is_not_merged(nodes_from: Callable) -> None:
    tree, nodes = tree_of((1, 2, 0.5)), nodes_from({1: 1, 2: 1})
    assert segments_of(segment_lookup(tree, nodes, threshold=0.5)) == {1: 1, 2: 2}
    assert segments_of(segment_lookup(tree, nodes, threshold=np.nextafter(0.5, 1))) == {1: 1, 2: 1}


@pytest.mark.parametrize("small", ["merge", "drop"])
def test_without_nodes_the_lookup_is_empty(nodes_from: Callable, small: str) -> None:
    lookup = segment_lookup(tree_of(), nodes_from({}), threshold=0.5, min_size_voxels=9, small=small)
    assert segments_of(lookup) == {}
    assert list(empty(LOOKUP)) == list(lookup)


# 1 and 2 merge below 0.5; 3 hangs on at 0.6, 4 at 0.8; 5 touches nothing.
CHAIN = ((1, 2, 0.2), (1, 3, 0.6), (1, 4, 0.8))
SIZES = {1: 60, 2: 50, 3: 10, 4: 200, 5: 7}


def test_a_small_segment_joins_along_the_tree_and_a_large_one_stays(nodes_from: Callable) -> None:
    found = segment_lookup(tree_of(*CHAIN), nodes_from(SIZES), threshold=0.5, min_size_voxels=100)
    assert segments_of(found) == {1: 1, 2: 1, 3: 1, 4: 2, 5: 0}


def test_a_small_segment_that_touches_nothing_becomes_zero(nodes_from: Callable) -> None:
    found = segment_lookup(tree_of(*CHAIN), nodes_from(SIZES), threshold=0.5, min_size_voxels=8)
    assert segments_of(found) == {1: 1, 2: 1, 3: 2, 4: 3, 5: 0}
    found = segment_lookup(tree_of(*CHAIN), nodes_from(SIZES), threshold=0.5, min_size_voxels=7)
    assert segments_of(found) == {1: 1, 2: 1, 3: 2, 4: 3, 5: 4}


def test_dropped_segments_leave_no_gap_in_the_numbers(nodes_from: Callable) -> None:
    found = segment_lookup(tree_of(*CHAIN), nodes_from(SIZES), threshold=0.5, min_size_voxels=100, small="drop")
    assert segments_of(found) == {1: 1, 2: 1, 3: 0, 4: 2, 5: 0}
    found = segment_lookup(tree_of(*CHAIN), nodes_from(SIZES), threshold=0.1, min_size_voxels=55, small="drop")
    assert segments_of(found) == {1: 1, 2: 0, 3: 0, 4: 2, 5: 0}


def test_a_chain_of_small_segments_stops_once_it_is_large_enough(nodes_from: Callable) -> None:
    # A chain of four segments of 10 voxels, then a large one.
    tree = tree_of((1, 2, 0.6), (1, 3, 0.7), (1, 4, 0.8), (1, 5, 0.9))
    nodes = nodes_from({1: 10, 2: 10, 3: 10, 4: 10, 5: 1000})
    by_size = {
        size: list(segments_of(segment_lookup(tree, nodes, threshold=0.5, min_size_voxels=size)).values())
        for size in (0, 10, 11, 20, 21, 30, 31, 41)
    }
    assert by_size == {
        0: [1, 2, 3, 4, 5],
        10: [1, 2, 3, 4, 5],
        11: [1, 1, 1, 1, 2],  # 3 and 4 are small themselves: they join what is large enough
        20: [1, 1, 1, 1, 2],
        21: [1, 1, 1, 1, 2],
        30: [1, 1, 1, 1, 2],
        31: [1, 1, 1, 1, 2],
        41: [1, 1, 1, 1, 1],
    }


def test_segments_that_stay_too_small_become_zero(nodes_from: Callable) -> None:
    tree, nodes = tree_of((1, 2, 0.6), (3, 4, 0.7)), nodes_from({1: 3, 2: 3, 3: 40, 4: 3})
    found = segment_lookup(tree, nodes, threshold=0.5, min_size_voxels=10)
    assert segments_of(found) == {1: 0, 2: 0, 3: 1, 4: 1}


def test_min_size_does_not_prevent_merges_below_the_threshold(nodes_from: Callable) -> None:
    tree, nodes = tree_of((1, 2, 0.1), (1, 3, 0.2)), nodes_from({1: 100, 2: 100, 3: 1})
    assert segments_of(segment_lookup(tree, nodes, threshold=0.5, min_size_voxels=10)) == {1: 1, 2: 1, 3: 1}


def test_input_tables_do_not_change(nodes_from: Callable) -> None:
    tree, nodes = tree_of(*CHAIN), nodes_from(SIZES)
    segment_lookup(tree, nodes, threshold=0.5, min_size_voxels=100)
    assert nodes["voxel_count"].tolist() == list(SIZES.values())
    assert tree["a"].tolist() == [1, 1, 1]


def test_a_small_segment_joins_one_that_it_touches(nodes_from: Callable, tables_from: Callable) -> None:
    # A row of three, 1 | 2 | 3: the small 3 touches 2 alone. Scores 0.6 and 0.8.
    edges, bins = tables_from({(1, 2): {102: 1}, (2, 3): {51: 1}})
    tree = merge_tree(edges, bins, parse_scoring("mean"))
    nodes = nodes_from({1: 100, 2: 100, 3: 1})
    assert segments_of(segment_lookup(tree, nodes, threshold=0.5, min_size_voxels=10)) == {1: 1, 2: 2, 3: 2}


def test_an_unknown_treatment_of_small_segments_is_refused(nodes_from: Callable) -> None:
    with pytest.raises(Exception, match="merge"):
        segment_lookup(tree_of(*CHAIN), nodes_from(SIZES), threshold=0.5, min_size_voxels=100, small="Merge")

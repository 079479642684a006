"""How many voxels each pair of labels shares: by hand, and added over regions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroseg.evaluation.contingency import COLUMNS, added, contingency, grouped
from neuroseg.tables import Table


def rows_of(table: Table) -> list[tuple[int, int, int]]:
    """The rows of a contingency as plain numbers."""
    assert {name: column.dtype for name, column in table.items()} == {n: np.dtype(d) for n, d in COLUMNS.items()}
    return list(zip(*(table[name].tolist() for name in COLUMNS), strict=True))


SEGMENTS = np.array([[[5, 5, 0], [9, 5, 0]]], np.uint64)
TRUTH = np.array([[[1, 1, 2], [1, 0, 2]]], np.uint32)


def test_hand_counted_pairs_without_the_ignored_truth() -> None:
    # Segment 0 is a label of its own; truth 0 does not count.
    assert rows_of(contingency(SEGMENTS, TRUTH)) == [(0, 2, 2), (5, 1, 2), (9, 1, 1)]


def test_ignored_labels_are_those_of_the_truth() -> None:
    assert rows_of(contingency(SEGMENTS, TRUTH, ignore=())) == [(0, 2, 2), (5, 0, 1), (5, 1, 2), (9, 1, 1)]
    assert rows_of(contingency(SEGMENTS, TRUTH, ignore=(1, 9))) == [(0, 2, 2), (5, 0, 1)]
    assert rows_of(contingency(SEGMENTS, TRUTH, ignore=(0, 1, 2))) == []


def test_an_empty_region_shares_nothing() -> None:
    nothing = np.zeros((0, 3, 4), np.uint64)
    assert rows_of(contingency(nothing, nothing)) == []


def test_ids_beyond_32_bits_keep_their_value() -> None:
    segments, truth = np.array([2**60 + 1, 2**60 + 1, 7], np.uint64), np.array([2**45, 3, 3], np.uint64)
    assert rows_of(contingency(segments, truth)) == [(7, 3, 1), (2**60 + 1, 3, 1), (2**60 + 1, 2**45, 1)]


def test_signed_labels_are_counted_alike() -> None:
    assert rows_of(contingency(SEGMENTS.astype(np.int64), TRUTH.astype(np.int32))) == rows_of(
        contingency(SEGMENTS, TRUTH)
    )


def test_grouped_adds_the_counts_of_equal_pairs() -> None:
    segment, truth, count = np.array([[4, 3, 4], [1, 1, 1], [10, 20, 30]], np.uint64)
    assert rows_of(grouped(segment, truth, count)) == [(3, 1, 20), (4, 1, 40)]


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    cuts=st.lists(st.integers(0, 9), max_size=3),
    labels=st.integers(1, 6),
)
def test_contingencies_add_across_regions(seed: int, cuts: list[int], labels: int) -> None:
    rng = np.random.default_rng(seed)
    segments = rng.integers(0, labels, (9, 4, 3)).astype(np.uint64)
    truth = rng.integers(0, labels, (9, 4, 3)).astype(np.uint64)
    faces = sorted({0, 9, *cuts})
    parts = [contingency(segments[b:e], truth[b:e]) for b, e in itertools.pairwise(faces)]
    assert rows_of(added(parts[::-1])) == rows_of(contingency(segments, truth))


@pytest.mark.parametrize("shape", [(2, 3), (1, 6), (6, 1)])
def test_the_counts_sum_to_the_voxels_compared(shape: tuple[int, int]) -> None:
    table = contingency(SEGMENTS.reshape(shape), TRUTH.reshape(shape))
    assert table["count"].sum() == 5

"""Voxels shared by each pair of labels: examples by hand, and sums over regions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroseg.evaluation import contingency as module
from neuroseg.evaluation.contingency import CONTINGENCY, GrowingTable, contingency
from neuroseg.tables import Table


def rows_of(table: Table) -> list[tuple[int, int, int]]:
    """The rows of a contingency as plain numbers."""
    assert {name: column.dtype for name, column in table.items()} == {n: np.dtype(d) for n, d in CONTINGENCY.items()}
    return list(zip(*(table[name].tolist() for name in CONTINGENCY), strict=True))


SEGMENTS = np.array([[[5, 5, 0], [9, 5, 0]]], np.uint64)
TRUTH = np.array([[[1, 1, 2], [1, 0, 2]]], np.uint32)


def test_hand_counted_pairs_without_the_ignored_truth() -> None:
    # Segment 0 is a label. Truth 0 is ignored.
    assert rows_of(contingency(SEGMENTS, TRUTH)) == [(0, 2, 2), (5, 1, 2), (9, 1, 1)]


def test_ignored_labels_are_labels_of_the_truth() -> None:
    assert rows_of(contingency(SEGMENTS, TRUTH, ignore=())) == [(0, 2, 2), (5, 0, 1), (5, 1, 2), (9, 1, 1)]
    assert rows_of(contingency(SEGMENTS, TRUTH, ignore=(1, 9))) == [(0, 2, 2), (5, 0, 1)]
    assert rows_of(contingency(SEGMENTS, TRUTH, ignore=(0, 1, 2))) == []


def test_an_empty_region_gives_an_empty_table() -> None:
    nothing = np.zeros((0, 3, 4), np.uint64)
    assert rows_of(contingency(nothing, nothing)) == []


def test_ids_beyond_32_bits_keep_their_value() -> None:
    segments, truth = np.array([2**60 + 1, 2**60 + 1, 7], np.uint64), np.array([2**45, 3, 3], np.uint64)
    assert rows_of(contingency(segments, truth)) == [(7, 3, 1), (2**60 + 1, 3, 1), (2**60 + 1, 2**45, 1)]


def test_signed_labels_give_the_same_counts() -> None:
    assert rows_of(contingency(SEGMENTS.astype(np.int64), TRUTH.astype(np.int32))) == rows_of(
        contingency(SEGMENTS, TRUTH)
    )


def test_ids_beyond_doubles_are_ignored_exactly() -> None:
    truth = np.array([2**60, 2**60 + 1, 2**64 - 1], np.uint64)
    assert [t for _, t, _ in rows_of(contingency(truth, truth, ignore=(2**60, 3)))] == [2**60 + 1, 2**64 - 1]
    assert [t for _, t, _ in rows_of(contingency(truth, truth, ignore=(-1,)))] == [2**60, 2**60 + 1]


def test_negative_labels_are_their_value_modulo_2_to_64() -> None:
    truth = np.array([-1, -1, 4], np.int32)
    assert rows_of(contingency(truth, truth, ignore=(4,))) == [(2**64 - 1, 2**64 - 1, 2)]
    assert rows_of(contingency(truth, truth, ignore=(-1,))) == [(4, 4, 1)]


def test_voxels_that_are_not_counted_add_no_row() -> None:
    counted = np.array([[[True, False, True], [False, True, True]]])
    assert rows_of(contingency(SEGMENTS, TRUTH, counted=counted)) == [(0, 2, 2), (5, 1, 1)]


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
    table = GrowingTable(CONTINGENCY)
    for part in parts[::-1]:
        table.add(part)
    assert rows_of(table.total()) == rows_of(contingency(segments, truth))


def test_pending_rows_never_outnumber_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PENDING_ROWS", 4)
    table, held = GrowingTable(CONTINGENCY), []
    for _ in range(50):
        table.add(contingency(SEGMENTS, TRUTH))
        held.append(len(table._sum["count"]) + sum(len(part["count"]) for part in table._pending))
    assert max(held) <= 3 + 4
    assert rows_of(table.total()) == [(0, 2, 100), (5, 1, 100), (9, 1, 50)]


@pytest.mark.parametrize("shape", [(2, 3), (1, 6), (6, 1)])
def test_the_counts_sum_to_the_voxels_compared(shape: tuple[int, int]) -> None:
    table = contingency(SEGMENTS.reshape(shape), TRUTH.reshape(shape))
    assert table["count"].sum() == 5

"""The order of rows and the index of names, compared with numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroseg.agglomeration.ordering import NameIndex, distinct, index_type, row_order

IDS = st.lists(st.sampled_from([0, 1, 2, 2047, 2048, 2**33, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1), max_size=60)


@given(rows=st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0, 5, 2**40, 2**64 - 1]), st.integers(0, 255))))
def test_rows_are_ordered_like_by_lexsort(rows: list[tuple[int, int, int]]) -> None:
    first, second = (np.array([row[at] for row in rows], np.uint64) for at in (0, 1))
    third = np.array([row[2] for row in rows], np.uint8)
    np.testing.assert_array_equal(row_order(first, second, third), np.lexsort((third, second, first)))


@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0, 5, 2**40, 2**64 - 1]))),
    sums=st.lists(st.integers(0, 2)),
)
def test_rows_in_order_by_some_columns_are_ordered_by_the_others(rows: list[tuple[int, int]], sums: list[int]) -> None:
    first, second = (np.array([row[at] for row in sorted(rows)], np.uint64) for at in (0, 1))
    third = np.resize(np.array([*sums, 0], np.uint64), len(rows))
    np.testing.assert_array_equal(row_order(first, second), np.arange(len(rows)))
    np.testing.assert_array_equal(row_order(third, first, second), np.lexsort((second, first, third)))


@given(scores=st.lists(st.floats(0, 1) | st.sampled_from([0.0, 0.5, 1.0, 1e-300]), max_size=80))
def test_floats_are_ordered_and_equal_ones_keep_their_order(scores: list[float]) -> None:
    column = np.array(scores, np.float64)
    np.testing.assert_array_equal(row_order(column), np.argsort(column, kind="stable"))


def test_many_rows_with_all_digits() -> None:
    rng = np.random.default_rng(1)
    u, v = rng.integers(0, 2**64, (2, 50_000), dtype=np.uint64) >> rng.integers(0, 64, (2, 50_000), dtype=np.uint64)
    np.testing.assert_array_equal(row_order(u, v), np.lexsort((v, u)))


@given(names=IDS, values=IDS)
def test_names_are_found(names: list[int], values: list[int]) -> None:
    known = list(dict.fromkeys(names))
    index, column = NameIndex(np.array(known, np.uint64)), np.array([*values, *known], np.uint64)
    expected = [known.index(int(value)) if int(value) in known else -1 for value in column]
    np.testing.assert_array_equal(index.positions(column), expected)
    np.testing.assert_array_equal(index.holds(column), np.array(expected, np.int64) >= 0)


@given(values=IDS)
def test_distinct_values_ascend(values: list[int]) -> None:
    column = np.array(values, np.uint64)
    np.testing.assert_array_equal(distinct(column), np.unique(column))


@pytest.mark.parametrize(("rows", "expected"), [(0, np.int32), (2**30 - 1, np.int32), (2**30, np.int64)])
def test_rows_have_32_bits_as_long_as_twice_their_number_fits(rows: int, expected: type) -> None:
    assert index_type(rows) is expected

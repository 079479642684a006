"""Parts of a table combine to the same bytes for any order and any split."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroseg.tables import BINS, EDGES, ENTRIES, LOOKUP, NODES, TREE, Table, combined, concatenated, empty

ALL_COLUMNS = [EDGES, BINS, NODES, ENTRIES, TREE, LOOKUP]


def table(columns: dict, rows: list[tuple]) -> Table:
    """A table from rows."""
    return {name: np.array([row[at] for row in rows], dtype) for at, (name, dtype) in enumerate(columns.items())}


def rows_of(found: Table) -> list[tuple]:
    """The rows of a table as plain numbers."""
    return list(zip(*(column.tolist() for column in found.values()), strict=True))


def assert_same_bytes(found: Table, expected: Table) -> None:
    """Columns, dtypes and values are the same."""
    assert list(found) == list(expected)
    for name in expected:
        assert found[name].dtype == expected[name].dtype, name
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_edges_of_two_parts_add_their_contacts_and_keep_the_larger_maximum() -> None:
    one = table(EDGES, [(1, 2, 3, 30, 20), (1, 5, 1, 7, 7)])
    other = table(EDGES, [(1, 2, 2, 100, 90), (2, 3, 1, 0, 0)])
    assert rows_of(combined([one, other], EDGES)) == [(1, 2, 5, 130, 90), (1, 5, 1, 7, 7), (2, 3, 1, 0, 0)]


def test_pairs_are_ordered_by_u_then_v_beyond_32_bits() -> None:
    large = 2**40
    pairs = [(large, large + 1), (1, large), (1, 2), (large, large + 1)]
    part = table(EDGES, [(*pair, 1, 1, 1) for pair in pairs])
    expected = [(1, 2, 1), (1, large, 1), (large, large + 1, 2)]
    assert [row[:3] for row in rows_of(combined([part], EDGES))] == expected


def test_a_histogram_has_one_row_per_pair_and_bin() -> None:
    one, other = table(BINS, [(1, 2, 0, 4), (1, 2, 9, 1)]), table(BINS, [(1, 2, 9, 5), (1, 3, 9, 2)])
    assert rows_of(combined([one, other], BINS)) == [(1, 2, 0, 4), (1, 2, 9, 6), (1, 3, 9, 2)]


def test_nodes_add_sums_and_widen_bounds() -> None:
    one = table(NODES, [(7, 2, 1, 10, 20, 0, 4, 10, 1, 6, 10)])
    other = table(NODES, [(7, 3, 9, 1, 60, 3, 0, 20, 3, 1, 20)])
    assert rows_of(combined([one, other], NODES)) == [(7, 5, 10, 11, 80, 0, 0, 10, 3, 6, 20)]


def test_a_sum_of_counts_does_not_wrap_at_32_bits() -> None:
    part = table(EDGES, [(1, 2, 2**33, 2**40, 255)])
    assert rows_of(combined([part] * 3, EDGES)) == [(1, 2, 3 * 2**33, 3 * 2**40, 255)]


@pytest.mark.parametrize("columns", ALL_COLUMNS)
def test_an_empty_table_has_every_column_with_its_dtype(columns: dict) -> None:
    for made in (empty(columns), concatenated([], columns), concatenated([empty(columns)] * 2, columns)):
        assert {name: column.dtype for name, column in made.items()} == {n: np.dtype(d) for n, d in columns.items()}
        assert all(len(column) == 0 for column in made.values())


@pytest.mark.parametrize("columns", [EDGES, BINS, NODES])
def test_no_parts_combine_to_an_empty_table(columns: dict) -> None:
    assert_same_bytes(combined([], columns), empty(columns))
    assert_same_bytes(combined([empty(columns)] * 2, columns), empty(columns))


@st.composite
def keyed_rows(draw: st.DrawFn) -> tuple[dict, list[tuple]]:
    """Columns of a table that combines, and rows with many repeated keys."""
    columns = draw(st.sampled_from([EDGES, BINS, NODES]))
    keys = {"u", "v", "bin", "fragment"}
    values = [st.integers(1, 4) if name in keys else st.integers(0, 200) for name in columns]
    return columns, draw(st.lists(st.tuples(*values), max_size=30))


@settings(max_examples=80)
@given(keyed_rows(), st.randoms(use_true_random=False), st.lists(st.integers(0, 30), max_size=4))
def test_combined_tables_are_equal_for_any_order_and_any_split(keyed, random, cuts) -> None:  # type: ignore[no-untyped-def]
    columns, rows = keyed
    expected = combined([table(columns, rows)], columns)
    shuffled = random.sample(rows, len(rows))
    faces = sorted({0, len(rows), *(min(cut, len(rows)) for cut in cuts)})
    parts = [table(columns, shuffled[b:e]) for b, e in itertools.pairwise(faces)]
    assert_same_bytes(combined(parts, columns), expected)
    # Parts of parts: what a tree of reductions would do.
    assert_same_bytes(combined([combined([part], columns) for part in parts], columns), expected)
    assert_same_bytes(combined([expected], columns), expected)


def test_combining_does_not_change_the_parts() -> None:
    part = table(EDGES, [(2, 3, 1, 1, 1), (1, 2, 1, 1, 1)])
    before = {name: column.copy() for name, column in part.items()}
    combined([part, part], EDGES)
    assert_same_bytes(part, before)

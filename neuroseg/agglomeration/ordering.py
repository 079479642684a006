"""Order rows of tables, and find names in lists, 5 to 20 times faster than numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroseg.kernels import compiled, compiled_in_place
from neuroseg.tables import Allocate

_DIGIT_BITS = 11
_DIGITS = 6  # of a column of 64 bits
_NONE = -1
# Rows are numbered with 32 bits up to this number. Half-edges need twice the number.
MOST_SMALL_ROWS = 2**30 - 1


def index_type(rows: int) -> type[np.signedinteger[Any]]:
    """Return the integer type that numbers the rows of a table, or for smaller numbers than `rows`."""
    return np.int32 if rows <= MOST_SMALL_ROWS else np.int64


def row_order(*columns: NDArray[Any], new: Allocate = np.empty) -> NDArray[Any]:
    """Return the order `(n,)` that sorts rows by the first column, of equal ones by the second one, and so on.

    Columns: numbers >= 0, integers or float64. Equal rows keep their order. `new` allocates arrays with `n` values.
    """
    index = index_type(len(columns[0]))
    order, spare = new(len(columns[0]), index), new(len(columns[0]), index)
    order[:] = np.arange(len(order), dtype=index)
    # Parts of tables are sorted. Rows in order by the last columns need to be sorted only by those before.
    unsorted = next((first for first in range(len(columns)) if _are_ascending(columns[first:])), len(columns))
    for column in reversed(columns[:unsorted]):
        # The bits of floats >= 0 have the order of the floats.
        bits = column.view(np.uint64) if column.dtype == np.float64 else column
        if _sort(order, spare, bits):
            order, spare = spare, order
    return order


def _are_ascending(columns: Sequence[NDArray[Any]]) -> bool:
    """Return whether rows are in order by the first column, of equal ones by the second one, and so on."""
    equal = np.ones(max(0, len(columns[0]) - 1), bool)
    for column in columns:
        if (equal & (column[1:] < column[:-1])).any():
            return False
        equal &= column[1:] == column[:-1]
    return True


class NameIndex:
    """Finds names in a list of different names, with a hash table."""

    def __init__(self, names: NDArray[np.uint64]) -> None:
        self._names, self._table = names, _free_table(len(names))
        _fill(self._table, names)

    def positions(self, values: NDArray[np.uint64]) -> NDArray[Any]:
        """Return the position `(n,)` of each value in the list, -1 if it is not there."""
        found: NDArray[Any] = _positions(self._table, self._names, values)
        return found

    def holds(self, values: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Return whether each value is in the list."""
        return self.positions(values) >= 0


def distinct(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the different values, ascending."""
    rows: NDArray[Any] = _first_rows(_free_table(len(values)), values)
    return np.sort(values[rows])


def _free_table(names: int) -> NDArray[Any]:
    """Return a hash table for a number of names, which fill at most half of it. Its size is a power of two."""
    return np.full(1 << (2 * names).bit_length(), _NONE, index_type(names))


@compiled
def _sort(order, spare, column):  # type: ignore[no-untyped-def]
    """Sort `order` by a column, digit by digit. Return whether the result is in `spare`."""
    digits, mask = np.zeros((_DIGITS, 1 << _DIGIT_BITS), np.int64), np.uint64((1 << _DIGIT_BITS) - 1)
    for value in column:
        bits = np.uint64(value)
        for digit in range(_DIGITS):
            digits[digit, bits & mask] += 1
            bits >>= np.uint64(_DIGIT_BITS)
    is_in_spare = False
    for digit in range(_DIGITS):
        counts, shift = digits[digit], np.uint64(digit * _DIGIT_BITS)
        if counts.max() == len(column):
            continue
        begin = 0
        for value in range(len(counts)):
            begin, counts[value] = begin + counts[value], begin
        source, target = (spare, order) if is_in_spare else (order, spare)
        for row in source:
            value = (np.uint64(column[row]) >> shift) & mask
            target[counts[value]] = row
            counts[value] += 1
        is_in_spare = not is_in_spare
    return is_in_spare


@compiled_in_place
def _fill(table, names):  # type: ignore[no-untyped-def]
    """Enter the positions of all names in a hash table."""
    for position in range(len(names)):
        table[_slot(table, names, names[position])] = position


@compiled
def _positions(table, names, values):  # type: ignore[no-untyped-def]
    out = np.empty(len(values), table.dtype)
    for row in range(len(values)):
        # Sorted columns have the same name in many rows.
        is_same = row > 0 and values[row] == values[row - 1]
        out[row] = out[row - 1] if is_same else table[_slot(table, names, values[row])]
    return out


@compiled
def _first_rows(table, values):  # type: ignore[no-untyped-def]
    """The first row of each different value."""
    rows, size = np.empty(len(values), table.dtype), 0
    for row in range(len(values)):
        if row > 0 and values[row] == values[row - 1]:
            continue
        at = _slot(table, values, values[row])
        if table[at] == _NONE:
            table[at] = row
            rows[size] = row
            size += 1
    return rows[:size]


@compiled_in_place
def _slot(table, names, value):  # type: ignore[no-untyped-def]
    """The slot of a name in the hash table, or a free slot."""
    mask = np.uint64(len(table) - 1)
    at = ((np.uint64(value) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20)) & mask
    while table[at] != _NONE and names[table[at]] != value:
        at = (at + np.uint64(1)) & mask
    return np.int64(at)

"""A table of edges between regions, in parts -> arrays for compiled code, and back.

Rows are numbered by their keys (u, v), ascending, over all parts. Columns are read part by part, when they are needed.
So no table is in memory twice, and fragments have 32 bits while regions are merged.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroseg.agglomeration.edge_statistics import Histograms
from neuroseg.agglomeration.half_edges import edge_type
from neuroseg.agglomeration.ordering import NameIndex, distinct, index_type, row_order
from neuroseg.kernels import compiled
from neuroseg.tables import REGIONS, Allocate, Table

Columns = Mapping[str, type[np.generic]]


@dataclass(frozen=True)
class Parts:
    """A table in parts: a function that counts all rows, and one that reads columns of one part after the other."""

    count: Callable[[], int]
    read: Callable[[Sequence[str]], Iterator[Table]]


def in_memory(tables: Sequence[Table]) -> Parts:
    """Return tables in memory as parts."""
    return Parts(
        lambda: sum(len(next(iter(table.values()))) for table in tables),
        lambda names: ({name: table[name] for name in names} for table in tables),
    )


def chained(first: Parts, second: Parts) -> Parts:
    """Return the parts of both."""
    return Parts(
        lambda: first.count() + second.count(), lambda names: itertools.chain(first.read(names), second.read(names))
    )


@dataclass(frozen=True)
class RegionRows:
    """How edges and regions are numbered.

    `names`: the smallest fragment of each region, ascending. `is_open`: whether contacts of a region are not known.
    `by_rank`: the edge of each rank of a link. `place`: the number of each row of the parts.
    """

    names: NDArray[np.uint64]
    is_open: NDArray[np.bool_]
    by_rank: NDArray[Any]
    place: NDArray[Any]


def region_rows(parts: Parts, new: Allocate = np.empty) -> tuple[RegionRows, NDArray[Any]]:
    """Return the edges (half_edges.py) of a table with the columns of tables.REGIONS, and how they are numbered.

    Keys and pairs of regions are unique. The link of an edge is its rank by the sum of affinities, of equal sums by the
    fragments.
    """
    index = index_type(parts.count())
    u, v = read_columns(parts, {name: REGIONS[name] for name in ("u", "v")}, new)
    place = new(len(u), index)
    place[row_order(u, v, new=new)] = np.arange(len(u), dtype=index)
    del u, v
    by_rank = _by_rank_of_link(parts, place, new)
    edges = new(len(place), edge_type(index))
    edges["key"] = edges["link"][by_rank] = np.arange(len(place), dtype=index)
    names = distinct(
        np.concatenate(
            [
                np.zeros(0, np.uint64),
                *(distinct(column) for part in parts.read(("a", "b")) for column in (part["a"], part["b"])),
            ]
        )
    )
    known, is_open, ends = NameIndex(names), np.zeros(len(names), bool), edges["ends"]
    start = 0
    for part in parts.read(("a", "b", "b_is_closed")):
        rows = place[start : start + len(part["a"])]
        first, second = known.positions(part["a"]), known.positions(part["b"])
        ends[rows, 0], ends[rows, 1] = first, second
        is_open[second[part["b_is_closed"] == 0]] = True
        start += len(rows)
    return RegionRows(names, is_open, by_rank, place), edges


def read_columns(
    parts: Parts,
    columns: Columns,
    new: Allocate = np.empty,
    place: NDArray[Any] | None = None,
) -> list[NDArray[Any]]:
    """Return columns of all parts. `place`: the number of each row of the parts, without it they keep their order."""
    arrays, start = [new(parts.count(), dtype) for dtype in columns.values()], 0
    for part in parts.read(tuple(columns)):
        stop = start + len(part[next(iter(columns))])
        rows = slice(start, stop) if place is None else place[start:stop]
        for array, name in zip(arrays, columns, strict=True):
            array[rows] = part[name]
        start = stop
    return arrays


def read_histograms(parts: Parts, new: Allocate = np.empty) -> Histograms:
    """Return the first entry of each edge and the number of entries, and bin and count of all entries, by (u, v, bin).

    `parts` have the columns of tables.BINS.
    """
    columns: Columns = {"u": np.uint64, "v": np.uint64, "bin": np.uint8}
    u, v, bins = read_columns(parts, columns, new)
    order = row_order(u, v, bins, new=new)
    starts, values, counts = _first_entries(u, v, order), new(len(u), np.uint8), new(len(u), np.int64)
    np.take(bins, order, out=values, mode="clip")  # another mode makes a copy
    del u, v, bins
    (unsorted,) = read_columns(parts, {"count": np.int64}, new)
    np.take(unsorted, order, out=counts, mode="clip")
    return starts, values, counts


def _by_rank_of_link(parts: Parts, place: NDArray[Any], new: Allocate) -> NDArray[Any]:
    """Return the edge of each rank of a link."""
    sums, u, v = read_columns(parts, {"link_sum": np.float64, "link_u": np.uint64, "link_v": np.uint64}, new)
    by_rank = new(len(place), place.dtype)
    by_rank[:] = place[row_order(sums, u, v, new=new)]
    return by_rank


@compiled
def _first_entries(u, v, order):  # type: ignore[no-untyped-def]
    """The first of the ordered rows of each pair (u, v), and the number of rows."""
    pairs = 0
    for at in range(len(order)):
        pairs += at == 0 or u[order[at]] != u[order[at - 1]] or v[order[at]] != v[order[at - 1]]
    starts, pair = np.empty(pairs + 1, np.int64), 0
    for at in range(len(order)):
        if at == 0 or u[order[at]] != u[order[at - 1]] or v[order[at]] != v[order[at - 1]]:
            starts[pair] = at
            pair += 1
    starts[pairs] = len(order)
    return starts

"""Two label volumes -> the number of voxels that each pair of labels shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from neuroseg.errors import InputError
from neuroseg.tables import Table, combined, empty

CONTINGENCY: Mapping[str, type[np.generic]] = {"segment": np.uint64, "truth": np.uint64, "count": np.uint64}

_PENDING_ROWS = 1_000_000


def contingency(
    segments: NDArray[np.integer],
    truth: NDArray[np.integer],
    ignore: Sequence[int] = (0,),
    *,
    counted: NDArray[np.bool_] | None = None,
) -> Table:
    """Return the contingency table of two label arrays: sorted rows (segment, truth, count).

    Voxels are skipped if their truth is in `ignore` or if `counted` is false. Segment 0 counts as a label. Negative
    labels, also in `ignore`, are taken modulo 2**64. Empty arrays give an empty table. Raises InputError if the shapes
    differ.
    """
    if segments.shape != truth.shape:
        raise InputError(f"segments have shape {segments.shape}, the truth has shape {truth.shape}; they must be equal")
    kept = (...,) if counted is None else (counted,)
    segments, truth = segments[kept].ravel(), truth[kept].ravel()
    starts = run_starts(segments, truth)
    rows = {
        "segment": segments[starts].astype(np.uint64),
        "truth": truth[starts].astype(np.uint64),
        "count": np.diff(starts, append=len(truth)).astype(np.uint64),
    }
    wanted = ~is_ignored(rows["truth"], ignore)
    return combined([{name: column[wanted] for name, column in rows.items()}], CONTINGENCY)


def run_starts(segments: NDArray[np.integer], truth: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the start of each run of equal label pairs in two flat arrays. Labels are compact, so runs are few."""
    new = np.ones(len(truth), bool)
    new[1:] = (segments[1:] != segments[:-1]) | (truth[1:] != truth[:-1])
    return np.flatnonzero(new)


def is_ignored(truth: NDArray[np.integer], ignore: Sequence[int]) -> NDArray[np.bool_]:
    """Return the mask of voxels whose id in `truth` is in `ignore`. All ids are taken modulo 2**64."""
    # numpy compares uint64 with int64 in floating point, where neighbouring ids above 2**53 are equal.
    return np.isin(truth.astype(np.uint64), np.array([i % 2**64 for i in ignore], np.uint64))


class GrowingTable:
    """The sum of many parts of one table. Needs the memory of about two results and one part.

    New parts are kept until they have more rows than the sum. Each row is then sorted only a few times.
    """

    def __init__(self, columns: Mapping[str, type[np.generic]]) -> None:
        self._columns = columns
        self._key = next(iter(columns))
        self._sum = empty(columns)
        self._pending: list[Table] = []

    def add(self, part: Table) -> None:
        """Add the rows of one part."""
        self._pending.append(part)
        if sum(self._rows(part) for part in self._pending) > max(self._rows(self._sum), _PENDING_ROWS):
            self.total()

    def total(self) -> Table:
        """Return the sum of all parts: one row per key, in ascending order."""
        self._sum = combined([self._sum, *self._pending], self._columns)
        self._pending = []
        return self._sum

    def _rows(self, table: Table) -> int:
        return len(table[self._key])

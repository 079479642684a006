"""Two label volumes -> how many voxels each pair of labels shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from neuroseg.errors import InputError
from neuroseg.tables import Table, combined, empty

CONTINGENCY: Mapping[str, type[np.generic]] = {"segment": np.uint64, "truth": np.uint64, "count": np.uint64}

_WAITING_ROWS = 1_000_000


def contingency(
    segments: NDArray[np.integer],
    truth: NDArray[np.integer],
    ignore: Sequence[int] = (0,),
    *,
    counted: NDArray[np.bool_] | None = None,
) -> Table:
    """Return rows (segment, truth, count), sorted, of two label arrays of one shape.

    Voxels whose truth is in `ignore`, and those where `counted` is false, do not count. Segment 0 counts as a label
    of its own. Negative labels are their value modulo 2**64, here and in `ignore`. Raises InputError when the shapes
    differ.
    """
    if segments.shape != truth.shape:
        raise InputError(f"segments have shape {segments.shape}, truth has {truth.shape}; they must be equal")
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
    """Return where runs of one pair of labels begin in two flat arrays: far fewer than voxels, labels being compact."""
    new = np.ones(len(truth), bool)
    new[1:] = (segments[1:] != segments[:-1]) | (truth[1:] != truth[:-1])
    return np.flatnonzero(new)


def is_ignored(truth: NDArray[np.integer], ignore: Sequence[int]) -> NDArray[np.bool_]:
    """Return where `truth` holds one of the ids in `ignore`, all of them modulo 2**64."""
    # As numpy would compare uint64 with int64, in floating point, ids above 2**53 meet their neighbours.
    return np.isin(truth.astype(np.uint64), np.array([i % 2**64 for i in ignore], np.uint64))


class GrowingTable:
    """The sum of many parts of one table, in the memory of about two of its result and one part.

    Parts wait until they outnumber what is combined already, so that each row is sorted a few times only.
    """

    def __init__(self, columns: Mapping[str, type[np.generic]]) -> None:
        self._columns = columns
        self._key = next(iter(columns))
        self._sum = empty(columns)
        self._waiting: list[Table] = []

    def add(self, part: Table) -> None:
        """Take in the rows of one part."""
        self._waiting.append(part)
        if sum(self._rows(part) for part in self._waiting) > max(self._rows(self._sum), _WAITING_ROWS):
            self.total()

    def total(self) -> Table:
        """Return the parts combined: one row per key, keys ascending."""
        self._sum = combined([self._sum, *self._waiting], self._columns)
        self._waiting = []
        return self._sum

    def _rows(self, table: Table) -> int:
        return len(table[self._key])

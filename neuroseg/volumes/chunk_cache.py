"""Reading regions that overlap: the chunks around a block are decoded once, and kept for its neighbours."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.geometry import Triple, slices, triple, whole

Read = Callable[[Roi], NDArray[Any]]
# Enough for the cells around a block of 64 voxels with its halo; larger blocks gain little and would need much more.
_KEPT_BYTES = 24 << 20
# Smaller cells are cheap to decode again, and there would be many; larger ones hold much that nobody asked for.
_CELL_VOXELS = range(32, 129)


def cached_read(read: Read, *, shape: Sequence[int], chunk: Sequence[int], voxel_bytes: int) -> Read:
    """Return a function that reads what `read` reads, of an array that does not change meanwhile.

    `read` gives `(..., z, y, x)` of a region within a volume of `shape`; whole cells of `chunk` voxels are read and up
    to 24 MiB of them kept, those used last. Where that would not pay, `read` itself is returned.
    """
    if not all(width in _CELL_VOXELS for width in chunk):
        return read
    return _Cells(read, triple(shape), triple(chunk), voxel_bytes)


class _Cells:
    def __init__(self, read: Read, shape: Triple, cell: Triple, voxel_bytes: int) -> None:
        self._read, self._whole, self._cell = read, whole(shape), cell
        self._most = _KEPT_BYTES // (voxel_bytes * cell[0] * cell[1] * cell[2])
        self._kept: OrderedDict[Triple, NDArray[Any]] = OrderedDict()
        self._turn = threading.Lock()

    def __call__(self, roi: Roi) -> NDArray[Any]:
        numbers = self._numbers(roi)
        if len(numbers) > self._most:
            return self._read(roi)
        with self._turn:
            self._fetch([number for number in numbers if number not in self._kept])
            parts = {number: self._kept[number] for number in numbers}
            out = np.empty((*parts[numbers[0]].shape[:-3], *roi.shape), parts[numbers[0]].dtype)
            for number, values in parts.items():
                box = self._box(number)
                common = box.intersect(roi)
                out[(..., *slices(common, roi.begin))] = values[(..., *slices(common, box.begin))]
                self._kept.move_to_end(number)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return out

    def _numbers(self, roi: Roi) -> list[Triple]:
        ends = zip(roi.begin, roi.end, self._cell, strict=True)
        return [triple(n) for n in itertools.product(*(range(b // c, -(-e // c)) for b, e, c in ends))]

    def _box(self, number: Triple) -> Roi:
        begin = [n * width for n, width in zip(number, self._cell, strict=True)]
        return Roi(begin, self._cell).intersect(self._whole)

    def _fetch(self, missing: list[Triple]) -> None:
        """Read the missing cells row by row: a call costs as much as several chunks, a large one much memory."""
        for _, row in itertools.groupby(missing, key=lambda number: number[:2]):
            cells = list(row)
            around = self._box(cells[0]).union(self._box(cells[-1]))
            values = self._read(around)
            for number in cells:
                self._kept[number] = values[(..., *slices(self._box(number), around.begin))].copy()

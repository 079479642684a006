"""A cache of decoded chunks, for regions that overlap: neighbouring blocks share the chunks in their halos."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.geometry import Triple, triple

Span = tuple[int, int]
Slices = tuple[slice, slice, slice]
Read = Callable[[Roi], NDArray[Any]]
# Enough for a block of 64 voxels with its halo. Larger blocks gain little and need much more memory.
_KEPT_BYTES = 24 << 20
# Smaller chunks are many, and cheap to decode again. Larger chunks contain many voxels that no region needs.
_CHUNK_WIDTHS = range(32, 129)


def cached_read(
    read: Read,
    *,
    shape: Sequence[int],
    chunk: Sequence[int],
    voxel_bytes: int,
    kept_bytes: int = _KEPT_BYTES,
    threads: int = 1,
) -> Read:
    """Return a function that reads like `read` and keeps some decoded chunks, the most recently used.

    `read` returns `(..., z, y, x)` of a region within a volume of `shape`, whose voxels must not change. It is called
    for rows of whole chunks of `chunk` voxels, by several `threads`. The default of `kept_bytes` is 24 MiB. If caching
    does not pay for this chunk size, `read` itself is returned.
    """
    if not all(width in _CHUNK_WIDTHS for width in chunk):
        return read
    capacity = kept_bytes // (voxel_bytes * chunk[0] * chunk[1] * chunk[2])
    return _ChunkCache(read, triple(shape), triple(chunk), capacity, threads)


def bytes_of_chunks(region: Sequence[int], chunk: Sequence[int], voxel_bytes: int) -> int:
    """Return the bytes of all chunks that a region of some shape touches, wherever it lies."""
    touched = [(-(-(size - 1) // width) + 1) * width for size, width in zip(region, chunk, strict=True)]
    return voxel_bytes * touched[0] * touched[1] * touched[2]


class _ChunkCache:
    def __init__(self, read: Read, shape: Triple, chunk: Triple, capacity: int, threads: int) -> None:
        self._read, self._shape, self._chunk, self._capacity = read, shape, chunk, capacity
        self._threads = ThreadPoolExecutor(threads, "read") if threads > 1 else None
        self._kept: OrderedDict[Triple, NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, roi: Roi) -> NDArray[Any]:
        box = [(int(begin), int(end)) for begin, end in zip(roi.begin, roi.end, strict=True)]
        cells = (range(begin // width, -(-end // width)) for (begin, end), width in zip(box, self._chunk, strict=True))
        indices = [triple(index) for index in itertools.product(*cells)]
        if len(indices) > self._capacity:
            return self._read(roi)
        with self._lock:
            self._fetch([index for index in indices if index not in self._kept])
            first = self._kept[indices[0]]
            out = np.empty((*first.shape[:-3], *(end - begin for begin, end in box)), first.dtype)
            for index in indices:
                target, source = _common(box, self._box(index))
                values = self._kept[index]
                out[(..., *target)] = values[(..., *source)]
                self._kept.move_to_end(index)
            while len(self._kept) > self._capacity:
                self._kept.popitem(last=False)
        return out

    def _box(self, index: Triple) -> list[Span]:
        """Return begin and end of a chunk along each axis."""
        sizes = zip(index, self._chunk, self._shape, strict=True)
        return [(n * width, min((n + 1) * width, size)) for n, width, size in sizes]

    def _fetch(self, missing: list[Triple]) -> None:
        """Read the missing chunks row by row: each call has a high fixed cost, and a large region needs much memory."""
        rows = [list(row) for _, row in itertools.groupby(missing, key=lambda index: index[:2])]
        boxes = [[(self._box(row[0])[axis][0], self._box(row[-1])[axis][1]) for axis in range(3)] for row in rows]
        regions = [Roi([b for b, _ in box], [e - b for b, e in box]) for box in boxes]
        found = map(self._read, regions) if self._threads is None else self._threads.map(self._read, regions)
        for row, region, values in zip(rows, regions, found, strict=True):
            for index in row:
                begin, end = (int(at - region.begin[2]) for at in self._box(index)[2])
                self._kept[index] = values[..., begin:end].copy()


def _common(box: Sequence[Span], chunk: Sequence[Span]) -> tuple[Slices, Slices]:
    """Return the common part of two boxes as slices of each."""
    common = [(max(b, c), min(e, d)) for (b, e), (c, d) in zip(box, chunk, strict=True)]
    return _slices(common, box), _slices(common, chunk)


def _slices(part: Sequence[Span], box: Sequence[Span]) -> Slices:
    z, y, x = (slice(b - first, e - first) for (b, e), (first, _) in zip(part, box, strict=True))
    return z, y, x

"""A cache of decoded chunks, for regions that overlap: neighbouring blocks share the chunks in their halos."""

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
# Enough for a block of 64 voxels with its halo. Larger blocks gain little and need much more memory.
_KEPT_BYTES = 24 << 20
# Smaller chunks are many, and cheap to decode again. Larger chunks contain many voxels that no region needs.
_CHUNK_WIDTHS = range(32, 129)


def cached_read(read: Read, *, shape: Sequence[int], chunk: Sequence[int], voxel_bytes: int) -> Read:
    """Return a function that reads like `read` and keeps up to 24 MiB of decoded chunks, the most recently used.

    `read` returns `(..., z, y, x)` of a region within a volume of `shape`, whose voxels must not change. It is called
    for whole chunks of `chunk` voxels. If caching does not pay for this chunk size, `read` itself is returned.
    """
    if not all(width in _CHUNK_WIDTHS for width in chunk):
        return read
    return _ChunkCache(read, triple(shape), triple(chunk), voxel_bytes)


class _ChunkCache:
    def __init__(self, read: Read, shape: Triple, chunk: Triple, voxel_bytes: int) -> None:
        self._read, self._whole, self._chunk = read, whole(shape), chunk
        self._capacity = _KEPT_BYTES // (voxel_bytes * chunk[0] * chunk[1] * chunk[2])
        self._kept: OrderedDict[Triple, NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, roi: Roi) -> NDArray[Any]:
        indices = self._indices(roi)
        if len(indices) > self._capacity:
            return self._read(roi)
        with self._lock:
            self._fetch([index for index in indices if index not in self._kept])
            parts = {index: self._kept[index] for index in indices}
            out = np.empty((*parts[indices[0]].shape[:-3], *roi.shape), parts[indices[0]].dtype)
            for index, values in parts.items():
                box = self._box(index)
                common = box.intersect(roi)
                out[(..., *slices(common, roi.begin))] = values[(..., *slices(common, box.begin))]
                self._kept.move_to_end(index)
            while len(self._kept) > self._capacity:
                self._kept.popitem(last=False)
        return out

    def _indices(self, roi: Roi) -> list[Triple]:
        """Return the indices (z, y, x) of the chunks that a region touches."""
        ends = zip(roi.begin, roi.end, self._chunk, strict=True)
        return [triple(n) for n in itertools.product(*(range(b // c, -(-e // c)) for b, e, c in ends))]

    def _box(self, index: Triple) -> Roi:
        begin = [n * width for n, width in zip(index, self._chunk, strict=True)]
        return Roi(begin, self._chunk).intersect(self._whole)

    def _fetch(self, missing: list[Triple]) -> None:
        """Read the missing chunks row by row: each call has a high fixed cost, and a large region needs much memory."""
        for _, row in itertools.groupby(missing, key=lambda index: index[:2]):
            chunks = list(row)
            around = self._box(chunks[0]).union(self._box(chunks[-1]))
            values = self._read(around)
            for index in chunks:
                self._kept[index] = values[(..., *slices(self._box(index), around.begin))].copy()

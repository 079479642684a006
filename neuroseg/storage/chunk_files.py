"""The files of a zarr array, read and written without zarr's event loop and threads, which cost more than the codec.

    box -> files (shards, or chunks) that it touches -> their chunks -> zstd -> values

Only arrays like those of arrays.create_array: zarr v3, zstd or no compression, chunks of a shard followed by their
index. The files have the same bytes as those that zarr writes.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numcodecs.zstd import Zstd
from numpy.typing import NDArray
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec, ShardingCodecIndexLocation, ZstdCodec
from zarr.storage import LocalStore

Cell = tuple[int, ...]
Span = tuple[int, int]
"""Begin and end along one axis."""

_MISSING = 2**64 - 1  # offset and length of a chunk that is not stored
_CHECKSUM_BYTES = 4


@dataclass(frozen=True)
class FilePart:
    """The common part of a file and a box, as slices of the box (`source`) and of the file (`target`).

    `whole`: the voxels of the array that the file contains.
    """

    cell: Cell
    source: tuple[slice, ...]
    target: tuple[slice, ...]
    whole: tuple[slice, ...]

    @property
    def shape(self) -> Cell:
        """The voxels of the file that lie in the array, along each axis."""
        return tuple(part.stop - part.start for part in self.whole)


@dataclass(frozen=True)
class ChunkFiles:
    """How an array is stored: a file has `file_shape` voxels and consists of chunks of `chunk_shape` voxels.

    `zstd`: level and checksum flag of the compression, None without. `is_sharded`: whether files end with an index.
    """

    shape: Cell
    dtype: np.dtype[Any]
    fill: Any
    file_shape: Cell
    chunk_shape: Cell
    zstd: tuple[int, bool] | None
    is_sharded: bool

    def read(self, folder: Path, names: Any, box: Sequence[Span]) -> NDArray[Any]:
        """Return the values of a box. `names(cell)` is the path of a file in `folder`. Missing chunks are `fill`.

        Raises OSError, ValueError or RuntimeError if a file cannot be read or is damaged.
        """
        out = np.empty([end - begin for begin, end in box], self.dtype)
        for cell in _cells(box, self.file_shape):
            corner = [n * size for n, size in zip(cell, self.file_shape, strict=True)]
            try:
                file = os.open(folder / names(cell), os.O_RDONLY)
            except FileNotFoundError:
                out[_within(box, corner, self.file_shape)[0]] = self.fill
                continue
            try:
                self._read_file(file, corner, box, out)
            finally:
                os.close(file)
        return out

    def _read_file(self, file: int, corner: Sequence[int], box: Sequence[Span], out: NDArray[Any]) -> None:
        """Fill the part of `out` that a file contains."""
        size = os.fstat(file).st_size
        index = self._index(file, size) if self.is_sharded else np.array([[0, size]], np.uint64)
        index = index.reshape(*self._chunks, 2)
        inside = [(max(0, b - c), min(n, e - c)) for (b, e), c, n in zip(box, corner, self.file_shape, strict=True)]
        for cell in _cells(inside, self.chunk_shape):
            begin = [c + n * size for c, n, size in zip(corner, cell, self.chunk_shape, strict=True)]
            target, source = _within(box, begin, self.chunk_shape)
            offset, length = (int(value) for value in index[cell])
            if offset == _MISSING:
                out[target] = self.fill
                continue
            if offset + length > size:
                raise ValueError("a chunk lies beyond the end of its file")
            out[target] = self._decoded(os.pread(file, length, offset))[source]

    def _index(self, file: int, size: int) -> NDArray[np.uint64]:
        """Return offset and length of each chunk. Raises ValueError if its checksum is wrong."""
        length = 16 * math.prod(self._chunks)
        stored = os.pread(file, length + _CHECKSUM_BYTES, size - length - _CHECKSUM_BYTES)
        if google_crc32c.value(stored[:length]).to_bytes(_CHECKSUM_BYTES, "little") != stored[length:]:
            raise ValueError("the index of a shard is damaged")
        return np.frombuffer(stored[:length], "<u8")

    def _decoded(self, stored: bytes) -> NDArray[Any]:
        """Return the values of a chunk. Raises ValueError or RuntimeError if there are too few or too many."""
        values = stored if self.zstd is None else self._codec.decode(stored)
        return np.frombuffer(values, self.dtype).reshape(self.chunk_shape)

    def parts(self, box: Sequence[Span]) -> Iterator[FilePart]:
        """Yield each file that a box touches."""
        for cell in _cells(box, self.file_shape):
            corner = [n * size for n, size in zip(cell, self.file_shape, strict=True)]
            source, target = _within(box, corner, self.file_shape)
            ends = [min(c + n, size) for c, n, size in zip(corner, self.file_shape, self.shape, strict=True)]
            yield FilePart(cell, source, target, tuple(slice(*ends) for ends in zip(corner, ends, strict=True)))

    def encoded(self, values: NDArray[Any]) -> bytes | None:
        """Return the content of the file with `values` at its begin, the rest `fill`. None if all are `fill`."""
        parts: list[bytes] = []
        index = np.full((*self._chunks, 2), _MISSING, "<u8")
        at = 0
        for cell in _morton_order(self._chunks):
            chunk = self._chunk(values, cell)
            if chunk is not None:
                parts.append(chunk.tobytes() if self.zstd is None else self._codec.encode(chunk))
                index[cell] = at, len(parts[-1])
                at += len(parts[-1])
        if not parts:
            return None
        if self.is_sharded:
            parts.append(index.tobytes())
            parts.append(google_crc32c.value(parts[-1]).to_bytes(_CHECKSUM_BYTES, "little"))
        return b"".join(parts)

    def _chunk(self, values: NDArray[Any], cell: Cell) -> NDArray[Any] | None:
        """Return one chunk of the values of a file, completed with `fill`. None if all are `fill`."""
        part = values[tuple(slice(n * size, (n + 1) * size) for n, size in zip(cell, self.chunk_shape, strict=True))]
        if not part.size or (part.flat[0] == self.fill and (part == self.fill).all()):
            return None
        if part.shape == self.chunk_shape:
            return np.ascontiguousarray(part)
        chunk = np.full(self.chunk_shape, self.fill, self.dtype)
        chunk[tuple(slice(0, size) for size in part.shape)] = part
        return chunk

    @cached_property
    def _codec(self) -> Zstd:
        assert self.zstd is not None
        return Zstd(level=self.zstd[0], checksum=self.zstd[1])

    @cached_property
    def _chunks(self) -> Cell:
        """The number of chunks of a file along each axis."""
        return tuple(size // width for size, width in zip(self.file_shape, self.chunk_shape, strict=True))


def chunk_files(array: Any) -> ChunkFiles | None:
    """Return how an array is stored, or None if only zarr can read and write it."""
    metadata = array.metadata
    if metadata.zarr_format != 3 or array.dtype.byteorder == ">" or array.dtype.kind not in "uif":
        return None
    codecs, sharding = list(metadata.codecs), None
    if len(codecs) == 1 and isinstance(codecs[0], ShardingCodec):
        sharding = codecs[0]
        codecs = list(sharding.codecs)
        is_usual = [type(codec) for codec in sharding.index_codecs] == [BytesCodec, Crc32cCodec]
        if not is_usual or sharding.index_location != ShardingCodecIndexLocation.end:
            return None
    if not codecs or not isinstance(codecs[0], BytesCodec) or len(codecs) > 2:
        return None
    if codecs[0].endian is not None and codecs[0].endian.value != "little":
        return None
    if len(codecs) == 2 and not isinstance(codecs[1], ZstdCodec):
        return None
    zstd = (codecs[1].level, codecs[1].checksum) if len(codecs) == 2 else None
    file_shape = tuple(array.shards or array.chunks)
    return ChunkFiles(
        tuple(array.shape), np.dtype(array.dtype), metadata.fill_value, file_shape, tuple(array.chunks), zstd,
        sharding is not None,
    )  # fmt: skip


def read_box(array: Any, index: Sequence[Any]) -> NDArray[Any]:
    """Return `array[index]`. `index` has a slice with step 1 or a number for each axis."""
    if isinstance(array, zarr.Array) and isinstance(array.store_path.store, LocalStore):
        files, box = chunk_files(array), _box(index, array.shape)
        # If a file cannot be read, zarr raises an error that names the problem.
        with suppress(OSError, ValueError, RuntimeError):
            if files is not None and box is not None:
                folder = Path(array.store_path.store.root) / array.store_path.path
                values = files.read(folder, array.metadata.encode_chunk_key, box)
                return values[tuple(slice(None) if isinstance(part, slice) else 0 for part in index)]
    return np.asarray(array[tuple(index)])


def _box(index: Sequence[Any], shape: Cell) -> list[Span] | None:
    """Return begin and end of an index along each axis. None if it is not a box inside the array."""
    box = []
    for part, size in zip(index, shape, strict=True):
        if isinstance(part, slice):
            begin, end, step = part.indices(size)
        elif isinstance(part, int | np.integer):
            begin, end, step = int(part), int(part) + 1, 1
        else:
            return None
        if step != 1 or not 0 <= begin < end <= size:
            return None
        box.append((begin, end))
    return box


def _cells(box: Sequence[Span], unit: Sequence[int]) -> Iterator[Cell]:
    """Yield the cells of a grid of `unit` voxels that a box touches."""
    return itertools.product(*(range(b // n, -(-e // n)) for (b, e), n in zip(box, unit, strict=True)))


def _within(box: Sequence[Span], corner: Sequence[int], shape: Cell) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the common part of a box and of a cell at `corner`, as slices in the box and in the cell."""
    common = [(max(b, c), min(e, c + n)) for (b, e), c, n in zip(box, corner, shape, strict=True)]
    in_box = tuple(slice(b - first, e - first) for (b, e), (first, _) in zip(common, box, strict=True))
    in_cell = tuple(slice(b - c, e - c) for (b, e), c in zip(common, corner, strict=True))
    return in_box, in_cell


def _morton_order(counts: Cell) -> list[Cell]:
    """Return the cells of a grid in the order of zarr: by their interleaved bits, the first axis lowest."""

    def place(cell: Cell) -> list[int]:
        bits = max(counts).bit_length()
        return [n >> bit & 1 for bit in range(bits - 1, -1, -1) for n in reversed(cell)]

    return sorted(itertools.product(*map(range, counts)), key=place)

"""The stored chunks of an array. A chunk that is not stored reads as fill values, whether it was empty or is lost."""

from __future__ import annotations

import glob
import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from zarr.core.sync import sync

from neuroseg.errors import InputError
from neuroseg.volumes.hdf5 import open_hdf5

# One file is checked per chunk: all chunks up to the first number, else a spread-out sample. Servers take longer.
_MOST_CHECKED, _SAMPLED, _SAMPLED_ON_SERVERS = 4096, 1024, 48
# Writers omit empty chunks. A border of such chunks is normal; more than a twentieth of a volume is suspicious.
_MISSING_SHARE = 0.05
_OTHER_SEPARATOR = {"/": ".", ".": "/"}


@dataclass(frozen=True)
class StoredChunks:
    """The number of an array's files (shards or chunks) that are stored. An estimate unless all were `checked`.

    `enclosed` counts missing files between two stored ones along some axis: a hole, not an empty border.
    """

    stored: int
    expected: int
    checked: int
    enclosed: int = 0

    @property
    def likely_incomplete(self) -> bool:
        """Whether so many chunks are missing that the copy of the volume may be incomplete."""
        return self.enclosed > 0 or self.expected - self.stored > _MISSING_SHARE * self.expected

    def __str__(self) -> str:
        sampled = "" if self.checked == self.expected else f" (estimated from {self.checked} chunks)"
        return f"{self.stored} of {self.expected} chunks stored{sampled}"


def stored_chunks(array: Any, fixed: Iterable[tuple[int, int]] = ()) -> StoredChunks | None:
    """Return the count of stored chunks of an array. None if it has no chunks.

    Counts only chunks that contain the `fixed` (dimension, index), such as one channel.
    """
    if isinstance(array, h5py.Dataset):
        return _stored_in_hdf5(array)
    if not hasattr(array, "store_path"):
        return None
    unit = array.shards or array.chunks
    grid = [-(-size // width) for size, width in zip(array.shape, unit, strict=True)]
    first = [0] * len(grid)
    for dimension, index in fixed:
        first[dimension], grid[dimension] = index // unit[dimension], 1
    expected = math.prod(grid)
    cells: Any = itertools.product(*map(range, grid))
    if expected > (_MOST_CHECKED if _is_local(array) else _SAMPLED_ON_SERVERS):
        chosen = np.linspace(0, expected - 1, _SAMPLED if _is_local(array) else _SAMPLED_ON_SERVERS).astype(np.int64)
        cells = zip(*np.unravel_index(chosen, grid), strict=True)
    there = np.array([_is_stored(array, tuple(int(b + c) for b, c in zip(first, cell, strict=True))) for cell in cells])
    if len(there) < expected:
        return StoredChunks(round(there.mean() * expected), expected, len(there))
    return StoredChunks(int(there.sum()), expected, expected, enclosed(there.reshape(grid)))


def enclosed(there: NDArray[np.bool_]) -> int:
    """Return the number of missing cells between two existing ones, along any axis of a grid."""
    holes = np.zeros(there.shape, bool)
    for axis in range(there.ndim):
        before = np.logical_or.accumulate(there, axis)
        after = np.flip(np.logical_or.accumulate(np.flip(there, axis), axis), axis)
        holes |= before & after & ~there
    return int(holes.sum())


def require_chunks(array: Any, path: str) -> None:
    """Raise InputError if the chunk files of a local array do not match its metadata, or if source files are missing.

    Such an array would read as fill values, without an error.
    """
    if isinstance(array, h5py.Dataset):
        _require_hdf5_sources(array, path)
    elif hasattr(array, "store_path") and _is_local(array) and array.ndim > 1:
        _require_separator(array, path)


def _is_local(array: Any) -> bool:
    return hasattr(array.store_path.store, "root")


def _is_stored(array: Any, cell: tuple[int, ...]) -> bool:
    place = array.store_path / array.metadata.encode_chunk_key(cell)
    return bool(sync(place.store.exists(place.path)))


def _require_separator(array: Any, path: str) -> None:
    folder = Path(array.store_path.store.root) / array.store_path.path
    if array.metadata.zarr_format == 2:
        described, file, key = array.metadata.dimension_separator, ".zarray", "dimension_separator"
        prefix = ""
    else:
        encoding = array.metadata.chunk_key_encoding
        described, file, key = encoding.separator, "zarr.json", "chunk_key_encoding's separator"
        prefix = f"c{_OTHER_SEPARATOR[described]}" if encoding.name == "default" else ""
    unit = array.shards or array.chunks
    last = [-(-size // width) - 1 for size, width in zip(array.shape, unit, strict=True)]
    corners = {tuple(0 for _ in last), tuple(index // 2 for index in last), tuple(last)}
    for cell in corners:
        if (folder / array.metadata.encode_chunk_key(cell)).exists():
            return
    for cell in corners:
        found = prefix + _OTHER_SEPARATOR[described].join(map(str, cell))
        if (folder / found).is_file():
            raise InputError(
                f"{path} stores its chunks as {found}, expected {array.metadata.encode_chunk_key(cell)} as in its "
                f"metadata; every voxel would read as {array.metadata.fill_value}",
                hint=f'set {key} to "{_OTHER_SEPARATOR[described]}" in {folder / file}',
            )


def _stored_in_hdf5(dataset: h5py.Dataset) -> StoredChunks | None:
    if dataset.is_virtual or dataset.external:
        return None
    if dataset.chunks is None:
        return StoredChunks(int(dataset.id.get_storage_size() > 0), 1, 1)
    grid = [-(-size // width) for size, width in zip(dataset.shape, dataset.chunks, strict=True)]
    expected = math.prod(grid)
    return StoredChunks(int(dataset.id.get_num_chunks()), expected, expected)


def _require_hdf5_sources(dataset: h5py.Dataset, path: str) -> None:
    """Raise InputError if source files, or datasets in them, of a virtual dataset are missing."""
    if not dataset.is_virtual:
        return
    folder = Path(dataset.file.filename).parent
    for source in dataset.virtual_sources():
        if source.file_name == ".":
            found = dataset.file.get(source.dset_name) is not None or "%" in source.dset_name
        else:
            found = any(_holds(place, source.dset_name) for place in _matching(folder, source.file_name))
        if not found:
            raise InputError(
                f"{path} is a virtual dataset; its source {source.file_name}:{source.dset_name.lstrip('/')} is "
                f"missing and would read as {dataset.fillvalue}",
                hint=f"copy the source file into {folder}",
            )


def _matching(folder: Path, name: str) -> list[Path]:
    """Return the files that HDF5 would open for a source. `%b` in a name stands for a counter."""
    places = (Path(name).parent, folder / Path(name).parent, folder)
    if "%b" in name:
        pattern = glob.escape(Path(name).name).replace("%b", "*")
        return [file for place in places if place.is_dir() for file in place.glob(pattern)]
    return [place / Path(name).name for place in places if (place / Path(name).name).is_file()]


def _holds(file: Path, dataset: str) -> bool:
    try:
        with open_hdf5(file) as handle:
            return "%b" in dataset or isinstance(handle.get(dataset), h5py.Dataset)
    except OSError:
        return False

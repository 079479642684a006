"""Which chunks of an array are stored: what is not reads as fill values, whether it was empty or has been lost."""

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

# Each takes a look at a file: all of them below the first number, else a spread-out sample. Servers take longer.
_MOST_LOOKED_AT, _SAMPLED, _SAMPLED_ON_SERVERS = 4096, 1024, 48
# Writers leave out chunks without a value: a border of them is normal, a twentieth of a volume worth a look.
_MISSING_SHARE = 0.05
_OTHER = {"/": ".", ".": "/"}


@dataclass(frozen=True)
class StoredChunks:
    """How many of an array's files (shards or chunks) are stored; an estimate unless all were `checked`.

    `enclosed` counts missing ones that lie between stored ones along some axis: a hole, not an empty border.
    """

    stored: int
    expected: int
    checked: int
    enclosed: int = 0

    @property
    def likely_incomplete(self) -> bool:
        """Whether so much is missing that the volume may be a part of a copy."""
        return self.enclosed > 0 or self.expected - self.stored > _MISSING_SHARE * self.expected

    def __str__(self) -> str:
        about = "" if self.checked == self.expected else f"about (of {self.checked} sampled) "
        return f"{about}{self.stored} of {self.expected} chunks stored"


def stored_chunks(array: Any, fixed: Iterable[tuple[int, int]] = ()) -> StoredChunks | None:
    """Return how much of an array is stored; None where it has no chunks.

    Only chunks that hold the `fixed` (dimension, index) count, such as those of one channel.
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
    if expected > (_MOST_LOOKED_AT if _is_local(array) else _SAMPLED_ON_SERVERS):
        chosen = np.linspace(0, expected - 1, _SAMPLED if _is_local(array) else _SAMPLED_ON_SERVERS).astype(np.int64)
        cells = zip(*np.unravel_index(chosen, grid), strict=True)
    there = np.array([_is_stored(array, tuple(int(b + c) for b, c in zip(first, cell, strict=True))) for cell in cells])
    if len(there) < expected:
        return StoredChunks(round(there.mean() * expected), expected, len(there))
    return StoredChunks(int(there.sum()), expected, expected, enclosed(there.reshape(grid)))


def enclosed(there: NDArray[np.bool_]) -> int:
    """Return how many cells of a grid are missing between two that are there, along any axis."""
    holes = np.zeros(there.shape, bool)
    for axis in range(there.ndim):
        before = np.logical_or.accumulate(there, axis)
        after = np.flip(np.logical_or.accumulate(np.flip(there, axis), axis), axis)
        holes |= before & after & ~there
    return int(holes.sum())


def require_chunks(array: Any, path: str) -> None:
    """Raise InputError where chunks of a local array lie elsewhere than its metadata say, or in files that are gone.

    Such an array reads as fill values, without an error.
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
        prefix = f"c{_OTHER[described]}" if encoding.name == "default" else ""
    unit = array.shards or array.chunks
    last = [-(-size // width) - 1 for size, width in zip(array.shape, unit, strict=True)]
    corners = {tuple(0 for _ in last), tuple(index // 2 for index in last), tuple(last)}
    for cell in corners:
        if (folder / array.metadata.encode_chunk_key(cell)).exists():
            return
    for cell in corners:
        found = prefix + _OTHER[described].join(map(str, cell))
        if (folder / found).is_file():
            raise InputError(
                f"{path}: its chunks are stored as {found}, its metadata say {array.metadata.encode_chunk_key(cell)}, "
                f"so all of it would read as {array.metadata.fill_value}; set {key} to "
                f'"{_OTHER[described]}" in {folder / file}'
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
    """Raise InputError where a virtual dataset is made of files, or of datasets, that are not there."""
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
                f"missing, and that part would read as {dataset.fillvalue}; put the file into {folder}"
            )


def _matching(folder: Path, name: str) -> list[Path]:
    """Return the files that HDF5 would open for a source: `%b` in a name counts up."""
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

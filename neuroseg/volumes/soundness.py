"""Checks for damaged or malicious zarrs on a disk, before anything is decoded.

Metadata must have a limited size. Everything that is read must be a regular file: opening a FIFO blocks forever, and a
device may never end.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zarr.storage import LocalStore

from neuroseg.errors import InputError

METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")
_COPY_AGAIN = "remove it, or copy the volume again"
_MOST_METADATA_BYTES = 64 * 2**20
# The id of a fragment is the linear index of a voxel + 1. It must fit into a signed 64-bit integer.
_MOST_VOXELS = 2**63 - 2


def require_sound_metadata(folder: Path) -> None:
    """Raise InputError if a metadata file of a zarr is not a regular file, is too large, or is not a JSON mapping."""
    for name in METADATA:
        path = folder / name
        if not os.path.lexists(path):
            continue
        size = require_regular(path)
        if size > _MOST_METADATA_BYTES:
            raise InputError(f"{path} has {size} bytes, expected metadata of at most {_MOST_METADATA_BYTES} bytes")
        try:
            content = json.loads(path.read_bytes())
        except RecursionError as error:
            raise InputError(f"{folder} is not a zarr array or group: {name} nests its brackets too deeply") from error
        except (ValueError, OSError) as error:
            raise InputError(f"{folder} is not a zarr array or group: {name} is not valid JSON ({error})") from error
        if not isinstance(content, dict):
            kind = type(content).__name__
            raise InputError(f"{folder} is not a zarr array or group: {name} contains a {kind}, expected a mapping")


def require_regular(path: Path) -> int:
    """Return the size of a file in bytes, following links. Raises InputError unless it is a regular file."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{path} is {_kind(found.st_mode)}, expected a regular file", hint=_COPY_AGAIN)
    return found.st_size


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"), (stat.S_ISDIR, "a folder"))
    return next((kind for is_kind, kind in kinds if is_kind(mode)), "a device")


def require_sound_array(path: str, shape: Sequence[int], chunks: Sequence[int] | None) -> None:
    """Raise InputError for an array with too many voxels for 64-bit ids, or with empty chunks."""
    if chunks is not None and any(width < 1 for width in chunks) and all(shape):
        raise InputError(f"{path} has chunks of {tuple(chunks)} voxels, expected at least 1 along each axis")
    if math.prod(shape) > _MOST_VOXELS:
        raise InputError(f"{path} has shape {tuple(shape)}, expected at most 2^63 voxels")


def require_regular_chunks(array: Any, index: Sequence[Any]) -> None:
    """Raise InputError if `array[index]` would read a chunk that is not a regular file. Only for zarrs on a disk.

    `index` has a slice or a number for each dimension. Missing files are not an error here.
    """
    if not hasattr(array, "store_path") or not isinstance(array.store_path.store, LocalStore):
        return
    folder = Path(array.store_path.store.root) / array.store_path.path
    for key in _keys(array, index):
        path = folder / key
        try:
            mode = os.stat(path).st_mode
        except OSError:
            continue
        if not stat.S_ISREG(mode):
            raise InputError(f"{path} is {_kind(mode)}, expected a chunk", hint=_COPY_AGAIN)


def _keys(array: Any, index: Sequence[Any]) -> list[str]:
    """Return the keys of the shards, or chunks, that an index touches."""
    unit = array.shards or array.chunks
    ranges = []
    for part, size, width in zip(index, array.shape, unit, strict=True):
        begin, end, _ = part.indices(size) if isinstance(part, slice) else (part, part + 1, 1)
        ranges.append(range(begin // width, -(-end // width)))
    return [array.metadata.encode_chunk_key(cell) for cell in itertools.product(*ranges)]

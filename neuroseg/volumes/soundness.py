"""Zarrs on a disk that are damaged or made to harm: refused in one sentence before anything decodes or waits for them.

Metadata are parsed once within bounds; what is read as a file must be one: to open a FIFO waits for ever, a device may
never end.
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
_MOST_METADATA_BYTES = 64 * 2**20
# Fragments are named by the linear index of a voxel + 1, in files and in signed integers.
_MOST_VOXELS = 2**63 - 2


def require_sound_metadata(folder: Path) -> None:
    """Raise InputError where what describes a zarr is no regular file, is too large, is no JSON, or is no mapping."""
    for name in METADATA:
        path = folder / name
        if not os.path.lexists(path):
            continue
        size = require_regular(path)
        if size > _MOST_METADATA_BYTES:
            raise InputError(f"{path} has {size} bytes; metadata of at most {_MOST_METADATA_BYTES} are read")
        try:
            content = json.loads(path.read_bytes())
        except RecursionError as error:
            raise InputError(f"{folder} is not a zarr array or group: {name} nests its brackets too deeply") from error
        except (ValueError, OSError) as error:
            raise InputError(f"{folder} is not a zarr array or group: {name} is no JSON ({error})") from error
        if not isinstance(content, dict):
            kind = type(content).__name__
            raise InputError(f"{folder} is not a zarr array or group: {name} holds a {kind}, expected a mapping")


def require_regular(path: Path) -> int:
    """Return the size of a file, links followed; raises InputError for what is not a regular file."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{path} is {_kind(found.st_mode)}, not a file; remove it, or copy the volume again")
    return found.st_size


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"), (stat.S_ISDIR, "a folder"))
    return next((kind for is_kind, kind in kinds if is_kind(mode)), "a device")


def require_sound_array(path: str, shape: Sequence[int], chunks: Sequence[int] | None) -> None:
    """Raise InputError for an array with more voxels than can be named, or with chunks of no voxel."""
    if chunks is not None and any(width < 1 for width in chunks) and all(shape):
        raise InputError(f"{path} has chunks of {tuple(chunks)} voxels; at least 1 along each axis is expected")
    if math.prod(shape) > _MOST_VOXELS:
        raise InputError(f"{path} has shape {tuple(shape)}, more than the 2^63 voxels that can be numbered")


def require_regular_chunks(array: Any, index: Sequence[Any]) -> None:
    """Raise InputError where a file that `array[index]` would read, of a zarr on a disk, is not a regular file.

    `index` holds a slice or a number for each dimension. Files that are missing are none of this function's business.
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
            raise InputError(f"{path} is {_kind(mode)}, not a chunk; remove it, or copy the volume again")


def _keys(array: Any, index: Sequence[Any]) -> list[str]:
    """Return the keys of the shards, or chunks, that an index touches."""
    unit = array.shards or array.chunks
    ranges = []
    for part, size, width in zip(index, array.shape, unit, strict=True):
        begin, end, _ = part.indices(size) if isinstance(part, slice) else (part, part + 1, 1)
        ranges.append(range(begin // width, -(-end // width)))
    return [array.metadata.encode_chunk_key(cell) for cell in itertools.product(*ranges)]

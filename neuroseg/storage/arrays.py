"""Zarr arrays: opened, created and kept aligned to the blocks that write them."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from funlib.geometry import Roi
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import LocalStore, MemoryStore

from neuroseg.errors import NeurosegError
from neuroseg.geometry import describe, slices
from neuroseg.storage.publish import published
from neuroseg.storage.remote import remote_store
from neuroseg.storage.remote_path import RemotePath
from neuroseg.storage.space import naming
from neuroseg.storage.trees import Place, remove_all

_CHUNK_VOXELS = 64
_LEAST_CHUNK_VOXELS = 16

logger = logging.getLogger(__name__)


def use_threads(count: int) -> None:
    """Limit what zarr does at a time in this process.

    zarr's own codec pipeline is kept: it writes a shard aside and renames it, where the faster one of zarrs overwrites
    the file in place and a killed worker would leave half a shard.
    """
    zarr.config.set({"async.concurrency": max(2, count), "threading.max_workers": max(1, count)})


def zarr_store(place: Place, *, writable: bool = False) -> Any:
    """Return what zarr takes for a place on a disk or on a server."""
    return remote_store(str(place), writable=writable) if isinstance(place, RemotePath) else str(place)


def open_array(path: Place, *, writable: bool = False) -> Any:
    """Return an array of the workspace; raises NeurosegError when it is missing."""
    try:
        return zarr.open_array(store=zarr_store(path, writable=writable), mode="r+" if writable else "r")
    except (FileNotFoundError, zarr.errors.NodeNotFoundError) as error:
        raise NeurosegError(f"{path} is missing; run the stage that makes it (neuroseg status shows which)") from error


def is_array(path: Place) -> bool:
    """Return whether the workspace has an array at `path`: a folder alone is what a killed run may leave."""
    try:
        described = json.loads((path / "zarr.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(described, dict) and described.get("node_type") == "array"


def inner_chunk(block: int) -> int:
    """Return the chunk size within a block's shard: the largest divisor up to 64, the whole block if that is tiny."""
    divisors = [size for size in range(1, min(block, _CHUNK_VOXELS) + 1) if block % size == 0]
    return divisors[-1] if divisors[-1] >= min(block, _LEAST_CHUNK_VOXELS) else block


def create_array(
    path: Place,
    *,
    shape: Sequence[int],
    dtype: type[np.generic],
    block: Sequence[int],
    attributes: Mapping[str, Any],
) -> None:
    """Create (or replace) a zarr v3 array whose shards are the blocks of the last three axes.

    A shard is the atomic unit of a write: two writers in one shard would silently lose data. Leading axes (channels)
    are never cut into shards.
    """
    remove_all(path)
    lead = tuple(shape[: len(shape) - 3])
    chunk = tuple(inner_chunk(size) for size in block)
    shards = (*lead, *block) if (*lead, *block) != (*(1 for _ in lead), *chunk) else None
    zarr.create_array(
        store=zarr_store(path, writable=True),
        shape=tuple(shape),
        dtype=np.dtype(dtype),
        chunks=(*(1 for _ in lead), *chunk),
        shards=shards,
        # A chunk that a crash or a disk damaged raises when it is read.
        compressors=ZstdCodec(level=1, checksum=True),
        fill_value=0,
        attributes=dict(attributes),
        zarr_format=3,
    )


def ensure_array(
    path: Place,
    stage: str,
    *,
    shape: Sequence[int],
    dtype: type[np.generic],
    block: Sequence[int],
    attributes: Mapping[str, Any],
) -> None:
    """Create an array unless it is there; raises NeurosegError when the stage's blocks do not suit one that is."""
    if not is_array(path):
        create_array(path, shape=shape, dtype=dtype, block=block, attributes=attributes)
    require_aligned(open_array(path), block, stage)


def write_region(array: Any, roi: Roi, values: NDArray[np.generic]) -> None:
    """Write a whole number of shards of the last three axes, all of the leading ones.

    zarr reads a shard before it replaces it: where one cannot be read, the new ones are made apart from the array.
    """
    box = (..., *slices(roi))
    try:
        with naming(array.store_path):
            array[box] = values
    except (ValueError, RuntimeError) as error:
        logger.warning("%s at %s cannot be read (%s): it is replaced", array.store_path, describe(roi), error)
        _replace_shards(array, roi, values)


def _replace_shards(array: Any, roi: Roi, values: NDArray[np.generic]) -> None:
    """Write shards, each in one step, without a look at those before."""
    made: dict[str, Buffer] = dict(array.metadata.to_buffer_dict(default_buffer_prototype()))
    zarr.open_array(store=MemoryStore(made), mode="r+")[(..., *slices(roi))] = values
    store, inside = array.store_path.store, array.path
    folder: Place = (
        Path(store.root) / inside if isinstance(store, LocalStore) else RemotePath(str(store), inside, store.store)
    )
    for key in _shard_keys(array, roi):
        if key in made:
            with published(folder / key) as aside:
                aside.write_bytes(made[key].to_bytes())
        else:
            (folder / key).unlink(missing_ok=True)  # zeros are not written


def _shard_keys(array: Any, roi: Roi) -> Iterator[str]:
    unit = array.shards or array.chunks
    begin = (*(0 for _ in unit[:-3]), *roi.begin)
    end = (*array.shape[: len(unit) - 3], *roi.end)
    cells = (range(b // width, -(-e // width)) for b, e, width in zip(begin, end, unit, strict=True))
    for cell in itertools.product(*cells):
        yield array.metadata.encode_chunk_key(cell)


def create_group(path: Place, attributes: Mapping[str, Any]) -> None:
    """Create a zarr v3 group (or replace the attributes of one)."""
    group = zarr.open_group(store=zarr_store(path, writable=True), mode="a", zarr_format=3)
    group.attrs.put(dict(attributes))


def require_aligned(array: Any, write_shape: Sequence[int], name: str) -> None:
    """Raise NeurosegError unless blocks of `write_shape` cover whole shards (or chunks) of the array."""
    unit = (array.shards or array.chunks)[-3:]
    sizes = array.shape[-3:]
    for step, size, width in zip(unit, sizes, write_shape, strict=True):
        if width % step and not (width >= size and step >= size):
            raise NeurosegError(
                f"write_shape {tuple(write_shape)} of stage {name} is not a multiple of the shards {tuple(unit)} of "
                f"{array.store_path}; two blocks would write one shard and lose data"
            )

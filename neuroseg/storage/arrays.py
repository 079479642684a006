"""Open and create zarr arrays, and check that their shards suit the blocks that write them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from funlib.geometry import Roi
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.group import GroupMetadata
from zarr.storage import LocalStore

from neuroseg.errors import NeurosegError
from neuroseg.geometry import slices
from neuroseg.storage.chunk_files import FilePart, chunk_files, read_box
from neuroseg.storage.publish import published
from neuroseg.storage.remote import remote_store
from neuroseg.storage.remote_path import RemotePath
from neuroseg.storage.trees import Place, remove_all

_CHUNK_VOXELS = 64
_LEAST_CHUNK_VOXELS = 16
# Up to this many channels share a chunk: viewers draw them as red, green and blue. More are often read in part.
_MOST_CHANNELS_TOGETHER = 3
_AXES = ("c", "z", "y", "x")

logger = logging.getLogger(__name__)


def use_threads(count: int) -> None:
    """Limit the number of threads and concurrent requests of zarr in this process."""
    # Keep zarr's own codec pipeline: it writes a shard to a temporary file and renames it. The faster pipeline of the
    # zarrs package overwrites the file in place, so a killed worker would leave half a shard.
    zarr.config.set({"async.concurrency": max(2, count), "threading.max_workers": max(1, count)})


def zarr_store(place: Place, *, writable: bool = False) -> Any:
    """Return the store of a place on a disk or on a server, as zarr accepts it."""
    return remote_store(str(place), writable=writable) if isinstance(place, RemotePath) else str(place)


def open_array(path: Place, *, writable: bool = False) -> Any:
    """Return an array of the workspace. Raises NeurosegError if it is missing."""
    try:
        return zarr.open_array(store=zarr_store(path, writable=writable), mode="r+" if writable else "r")
    except (FileNotFoundError, zarr.errors.NodeNotFoundError) as error:
        raise NeurosegError(
            f"{path} is missing", hint="run the stage that writes it; neuroseg status lists the stages"
        ) from error


def is_array(path: Place) -> bool:
    """Return whether there is an array at `path`. A folder without metadata, as a killed run may leave it, is none."""
    try:
        described = json.loads((path / "zarr.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(described, dict) and described.get("node_type") == "array"


def inner_chunk(block: int) -> int:
    """Return the chunk size along one axis of a shard of `block` voxels.

    It is the largest divisor of `block` up to 64, or `block` if that divisor is smaller than 16.
    """
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
    """Create a zarr v3 array whose shards are `block` voxels in the last three axes. Replace an existing array.

    A shard is the atomic unit of a write: if two blocks wrote to one shard, data would be lost without an error.
    `shape` is (z, y, x) or (c, z, y, x); the axes are named so. A shard covers all channels. A chunk covers all
    channels if there are at most three.
    """
    remove_all(path)
    lead = tuple(shape[: len(shape) - 3])
    together = lead if sum(lead) <= _MOST_CHANNELS_TOGETHER else (1,)
    chunk = (*together, *(inner_chunk(size) for size in block))
    shard = (*lead, *block)
    zarr.create_array(
        store=zarr_store(path, writable=True),
        shape=tuple(shape),
        dtype=np.dtype(dtype),
        chunks=chunk,
        shards=shard if shard != chunk else None,
        # With a checksum, reading a chunk that a crash or a disk damaged raises an error.
        compressors=ZstdCodec(level=1, checksum=True),
        fill_value=0,
        attributes=dict(attributes),
        dimension_names=_AXES[-len(shape) :],
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
    """Create an array if there is none.

    Raises NeurosegError if there is one whose shards do not suit the stage's blocks.
    """
    if not is_array(path):
        create_array(path, shape=shape, dtype=dtype, block=block, attributes=attributes)
    require_aligned(open_array(path), block, stage)


def read_region(array: Any, roi: Roi) -> NDArray[Any]:
    """Return the values `([c,] z, y, x)` of `roi`, of all leading axes."""
    return read_box(array, (*(slice(None) for _ in array.shape[:-3]), *slices(roi)))


def write_region(array: Any, roi: Roi, values: NDArray[np.generic]) -> None:
    """Write `values` to `roi`. The leading axes are written completely.

    Each shard is replaced in one step. If `roi` covers only a part of one, the rest of it is kept. No other process may
    write to the same shard.
    """
    files = chunk_files(array)
    assert files is not None, "the workspace creates its arrays in this layout"
    folder, box = _folder_of(array), [(0, size) for size in array.shape[:-3]]
    for part in files.parts([*box, *zip(roi.begin, roi.end, strict=True)]):
        content = values[part.source].astype(array.dtype, copy=False)
        if content.shape != part.shape:
            content = _kept_around(array, part, content)
        place, encoded = folder / array.metadata.encode_chunk_key(part.cell), files.encoded(content)
        if encoded is None:
            place.unlink(missing_ok=True)  # zeros are not written
            continue
        with published(place, flush=False) as aside:
            aside.write_bytes(encoded)


def _folder_of(array: Any) -> Place:
    store, inside = array.store_path.store, array.path
    return Path(store.root) / inside if isinstance(store, LocalStore) else RemotePath(str(store), inside, store.store)


def _kept_around(array: Any, part: FilePart, values: NDArray[Any]) -> NDArray[Any]:
    """Return the content of a shard with `values` in it. If the old shard cannot be read, the rest is 0."""
    try:
        whole = read_box(array, part.whole)
    except (ValueError, RuntimeError) as error:
        logger.warning("replacing a damaged part of %s: %s", array.store_path, error)
        whole = np.zeros(part.shape, array.dtype)
    whole[part.target] = values
    return whole


def create_group(path: Place, attributes: Mapping[str, Any]) -> None:
    """Create a zarr v3 group, or replace the attributes of an existing one in one step."""
    described = GroupMetadata(attributes=dict(attributes), zarr_format=3)
    with published(path / "zarr.json") as aside:
        aside.write_bytes(described.to_buffer_dict(default_buffer_prototype())["zarr.json"].to_bytes())


def require_aligned(array: Any, write_shape: Sequence[int], name: str) -> None:
    """Raise NeurosegError unless blocks of `write_shape` voxels cover whole shards (or chunks) of the array."""
    unit = (array.shards or array.chunks)[-3:]
    sizes = array.shape[-3:]
    for step, size, width in zip(unit, sizes, write_shape, strict=True):
        if width % step and not (width >= size and step >= size):
            raise NeurosegError(
                f"the block shape {tuple(write_shape)} of stage {name} is not a multiple of the shard shape "
                f"{tuple(unit)} of {array.store_path}: two blocks would write to one shard and lose data"
            )

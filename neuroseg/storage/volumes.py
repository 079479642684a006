"""Volumes: 3D arrays with a voxel size and an offset, opened from whatever zarr a user has, and created as OME-NGFF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.errors import InputError
from neuroseg.geometry import Nanometres, Triple, slices, triple, whole
from neuroseg.storage.arrays import create_array, create_group, open_node
from neuroseg.storage.chunks import require_chunks
from neuroseg.storage.metadata import array_attributes, ome_attributes, ome_levels, plain_metadata
from neuroseg.storage.places import Place

_LOOKED_THROUGH_VOXELS = 2**22  # a tenth of a second
_SAMPLED_BOXES = 8
_SAMPLED_EDGE_VOXELS = 16


@dataclass(frozen=True)
class Volume:
    """An opened volume: `array` is indexed by `lead` (fixed channel and time indices) and then z, y, x."""

    path: str
    array: Any
    voxel_size_nm: Nanometres | None
    offset_nm: Nanometres
    lead: tuple[int, ...] = ()
    placed: bool = True  # False where the metadata do not say where the volume lies: offset_nm is then 0

    @property
    def shape(self) -> Triple:
        """Voxels along z, y, x."""
        return triple(self.array.shape[-3:])

    @property
    def roi(self) -> Roi:
        """The whole volume."""
        return whole(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the voxels."""
        dtype: np.dtype[Any] = np.dtype(self.array.dtype)
        return dtype

    def read(self, roi: Roi) -> NDArray[Any]:
        """Return the voxels `(z, y, x)` of a region within the volume."""
        return np.asarray(self.array[(*self.lead, *slices(roi))])

    def first_look(self) -> list[Roi]:
        """Return the regions whose values are checked before a run begins: all of a small volume, samples of a large.

        What a sample does not show, the block that meets it will.
        """
        return [self.roi] if self.roi.size <= _LOOKED_THROUGH_VOXELS else self.samples()

    def samples(self) -> list[Roi]:
        """Return small regions spread over the volume, the same for the same shape."""
        rng = np.random.default_rng(0)
        edges = [min(_SAMPLED_EDGE_VOXELS, size) for size in self.shape]
        return [
            Roi([int(rng.integers(size - edge + 1)) for size, edge in zip(self.shape, edges, strict=True)], edges)
            for _ in range(_SAMPLED_BOXES)
        ]


def open_volume(path: str, *, level: int = 0, voxel_size_nm: Nanometres | None = None) -> Volume:
    """Return the volume at `path`: a zarr array, a group with `raw`, an OME-NGFF image, or `path.zarr/inside`.

    `voxel_size_nm` overrides what the metadata say. Raises InputError when there is no 3D volume. Only OME axes
    metadata makes a 4D or 5D array a volume (t and c of size one).
    """
    if (Path(path) / "run.yaml").is_file():
        raise InputError(f"{path} is a workspace, not a volume; its labels are {path.rstrip('/')}/segmentation.zarr")
    node = open_node(path)
    if not hasattr(node, "shape"):
        levels = ome_levels(node.attrs)
        if levels:
            return _open_level(path, node, levels, level, voxel_size_nm)
        for name in ("raw", "0"):
            if name in node:
                return open_volume(f"{path.rstrip('/')}/{name}", level=level, voxel_size_nm=voxel_size_nm)
        members = sorted(node.keys())
        raise InputError(
            f"{path} is a zarr group without an image; name the array inside, for example "
            f"{path.rstrip('/')}/{members[0] if members else 'raw'} (found: {', '.join(members) or 'nothing'})"
        )
    if node.ndim != 3:
        raise InputError(
            f"{path} is a {node.ndim}D array of shape {tuple(node.shape)}; a 3D array (z, y, x) is expected"
            + ("; only OME-NGFF axes metadata can tell which axes to drop" if node.ndim > 3 else "")
        )
    if level:
        raise InputError(f"{path} is one array, without a pyramid; leave --level {level} out")
    size, offset = plain_metadata(node.attrs, node.ndim)
    return checked(Volume(str(path), node, voxel_size_nm or size, offset, placed="offset" in node.attrs))


def _open_level(path: str, node: Any, levels: Sequence[Any], level: int, voxel_size_nm: Nanometres | None) -> Volume:
    if not 0 <= level < len(levels):
        raise InputError(f"{path} has {len(levels)} levels (0 to {len(levels) - 1}), found --level {level}")
    chosen = levels[level]
    array = node.get(chosen.path)
    if not hasattr(array, "shape"):
        raise InputError(f"{path} lists level {level} at {chosen.path!r}, but there is no array; is the copy complete?")
    axes = "".join(chosen.axes)
    if axes[-3:] != "zyx" or array.ndim != len(axes) or any(size != 1 for size in array.shape[:-3]):
        raise InputError(f"{path} has axes {axes} and shape {tuple(array.shape)}; z, y, x with t = c = 1 are expected")
    lead = (0,) * (array.ndim - 3)
    scale, translation = chosen.scale_nm[-3:], chosen.translation_nm[-3:]
    return checked(Volume(path, array, voxel_size_nm or (scale if chosen.scaled else None), translation, lead))


def checked(volume: Volume) -> Volume:
    """Return the volume; raises InputError when it is empty, lacks its files, or has an unusable voxel size."""
    if min(volume.shape) == 0:
        raise InputError(f"{volume.path} is empty: shape {volume.shape}")
    if volume.voxel_size_nm is not None:
        check_voxel_size(volume.path, volume.voxel_size_nm)
    require_chunks(volume.array, volume.path)
    return volume


def check_voxel_size(path: str, size: Nanometres) -> None:
    """Raise InputError unless the voxel size is three positive numbers."""
    if not all(0 < edge < float("inf") for edge in size):
        raise InputError(f"{path} has voxel size {size} nm; three positive numbers are expected")


def require_voxel_size(volume: Volume) -> Nanometres:
    """Return the volume's voxel size; raises InputError with the option to give one."""
    if volume.voxel_size_nm is None:
        raise InputError(
            f"{volume.path} has no voxel size (no OME-NGFF scale, voxel_size or resolution attribute); "
            "give it in nm, for example --voxel-size 10 10 10 (z y x)"
        )
    return volume.voxel_size_nm


def create_volume(
    path: Place,
    *,
    shape: Sequence[int],
    dtype: type[np.generic],
    block: Sequence[int],
    voxel_size_nm: Nanometres,
    offset_nm: Nanometres = (0.0, 0.0, 0.0),
    labels: bool = False,
    name: str | None = None,
) -> None:
    """Create an OME-NGFF 0.5 image with one level, `path/0`, sharded by `block`; voxels are 0 until written.

    Write it with `open_array(path / "0", writable=True)`, whole shards at a time. More levels: `write_levels`.
    """
    create_group(path, ome_attributes(name or path.stem, [("0", (1, 1, 1))], voxel_size_nm, offset_nm, labels=labels))
    create_array(
        path / "0", shape=shape, dtype=dtype, block=block, attributes=array_attributes(voxel_size_nm, offset_nm)
    )


def write_levels(
    path: Place,
    levels: Sequence[tuple[str, Triple]],
    voxel_size_nm: Nanometres,
    offset_nm: Nanometres,
    *,
    labels: bool,
    name: str,
    more: Mapping[str, Any],
) -> None:
    """Replace the metadata of an OME-NGFF image so that it lists `levels` (path, factors) and holds `more`."""
    create_group(path, {**ome_attributes(name, levels, voxel_size_nm, offset_nm, labels=labels), **more})

"""Volumes: 3D arrays with a voxel size and an offset. Opened from any zarr of the user, created as OME-NGFF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.errors import InputError
from neuroseg.geometry import Nanometres, Triple, slices, triple, whole
from neuroseg.storage.arrays import create_array, create_group
from neuroseg.storage.chunk_files import read_box
from neuroseg.storage.trees import Place
from neuroseg.volumes.axes import PLAIN, Layout, named_axes
from neuroseg.volumes.description import Facts, description_of, plain_facts
from neuroseg.volumes.images import level_of_image, member, members
from neuroseg.volumes.metadata import Level, array_attributes, ome_attributes, ome_levels
from neuroseg.volumes.placement import CENTRE, CORNER, UNKNOWN, Grid
from neuroseg.volumes.selection import WHOLE_FILE, Selection
from neuroseg.volumes.soundness import require_regular_chunks
from neuroseg.volumes.stored_chunks import require_chunks
from neuroseg.volumes.zarr_nodes import open_node

_CHECKED_VOXELS = 2**22  # takes a tenth of a second
_SAMPLED_BOXES = 8
_SAMPLED_EDGE_VOXELS = 16


@dataclass(frozen=True)
class Volume:
    """An opened volume. `layout` locates z, y and x in `array`.

    `offset_nm` follows `convention` (placement.py). `corner_nm` is the same offset as plain arrays state it (None:
    equal to `offset_nm`). If the file states no certain offset, `placed` is false and both are 0. `no_size_reason`
    explains why a stated voxel size cannot be used.
    """

    path: str
    array: Any
    voxel_size_nm: Nanometres | None
    offset_nm: Nanometres
    layout: Layout = PLAIN
    placed: bool = True
    convention: str = CORNER
    corner_nm: Nanometres | None = None
    no_size_reason: str = ""

    @property
    def shape(self) -> Triple:
        """Voxels along z, y, x."""
        return triple(self.layout.of(self.array.shape))

    @property
    def chunks(self) -> Triple | None:
        """Voxels of a stored chunk along z, y, x. None if the array has no chunks."""
        return triple(self.layout.of(self.array.chunks)) if self.array.chunks else None

    @property
    def shards(self) -> Triple | None:
        """Voxels of a shard along z, y, x. None if the array has no shards."""
        shards = getattr(self.array, "shards", None)
        return triple(self.layout.of(shards)) if shards else None

    @property
    def zero(self) -> str:
        """The convention of the offset. UNKNOWN if the file states no certain offset."""
        return self.convention if self.placed else UNKNOWN

    @property
    def roi(self) -> Roi:
        """The whole volume."""
        return whole(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The data type of the voxels."""
        dtype: np.dtype[Any] = np.dtype(self.array.dtype)
        return dtype

    def channels(self) -> list[Volume]:
        """Return each channel as a volume. Without a channel dimension, only this volume."""
        if self.layout.channel is None:
            return [self]
        count = self.array.shape[self.layout.channel]
        return [replace(self, layout=self.layout.only(channel)) for channel in range(count)]

    def read(self, roi: Roi) -> NDArray[Any]:
        """Return the voxels `([c,] z, y, x)` of a region within the volume, with `c` if channels are kept."""
        index = self.layout.index(slices(roi))
        require_regular_chunks(self.array, index)
        return self.layout.arranged(read_box(self.array, index))

    def checked_regions(self) -> list[Roi]:
        """Return the regions to check before a run starts: all of a small volume, samples of a large one.

        A wrong value outside the samples fails later, in its block.
        """
        return [self.roi] if self.roi.size <= _CHECKED_VOXELS else self.samples()

    def samples(self) -> list[Roi]:
        """Return small regions spread over the volume. They depend only on its shape."""
        rng = np.random.default_rng(0)
        edges = [min(_SAMPLED_EDGE_VOXELS, size) for size in self.shape]
        return [
            Roi([int(rng.integers(size - edge + 1)) for size, edge in zip(self.shape, edges, strict=True)], edges)
            for _ in range(_SAMPLED_BOXES)
        ]


def open_volume(
    path: str, *, level: int = 0, voxel_size_nm: Nanometres | None = None, selection: Selection = WHOLE_FILE
) -> Volume:
    """Return the volume at `path`: a zarr array, a group with `raw`, an OME-NGFF image, or `path.zarr/inside`.

    `voxel_size_nm` and `selection` override the metadata. Raises InputError if there is no 3D volume, or more than one.
    """
    if (Path(path) / "run.yaml").is_file():
        raise InputError(
            f"{path} is a workspace, expected a volume",
            hint=f"for its segmentation, give {path.rstrip('/')}/segmentation.zarr",
        )
    node = open_node(path)
    if not hasattr(node, "shape"):
        levels = ome_levels(node.attrs)
        if levels:
            return _open_level(path, node, levels, level, voxel_size_nm, selection)
        found = members(node, path)
        for name in ("raw", "0"):
            if name in found:
                inside = f"{path.rstrip('/')}/{name}"
                return open_volume(inside, level=level, voxel_size_nm=voxel_size_nm, selection=selection)
        raise InputError(
            f"{path} is a zarr group without an image (found: {', '.join(found) or 'nothing'})",
            hint=f"give the path of an array inside, for example {path.rstrip('/')}/{found[0]}" if found else "",
        )
    if level:
        raise InputError(f"{path} is one array without levels, found --level {level}", hint="omit --level")
    return opened(str(path), node, facts_of_zarr(str(path), node), selection, voxel_size_nm)


def facts_of_zarr(path: str, array: Any) -> Facts:
    """Return the facts of a zarr array: from the OME-NGFF image that lists it as a level, else from the array."""
    attributes = array.attrs
    names = named_axes(attributes, dimension_names=getattr(array.metadata, "dimension_names", None))
    level = level_of_image(path)
    if level is not None:
        return level.facts(path, array.shape, names)
    return plain_facts(path, array.shape, names, attributes)


def opened(
    path: str,
    array: Any,
    facts: Facts,
    selection: Selection,
    voxel_size_nm: Nanometres | None,
    *,
    channels: bool = False,
) -> Volume:
    """Return an array as a volume, described by its facts and the user's options (description.py)."""
    found = description_of(facts, selection, voxel_size_nm, channels=channels)
    return checked(
        Volume(
            path, array, found.voxel_size_nm, found.offset_nm, found.layout, found.placed, found.convention,
            found.corner_nm, found.no_size_reason,
        )
    )  # fmt: skip


def _open_level(
    path: str, node: Any, levels: Sequence[Level], level: int, voxel_size_nm: Nanometres | None, selection: Selection
) -> Volume:
    if not 0 <= level < len(levels):
        raise InputError(f"{path} has {len(levels)} levels (0 to {len(levels) - 1}), found --level {level}")
    chosen = levels[level]
    array = member(node, path, chosen.path)
    if not hasattr(array, "shape"):
        raise InputError(
            f"{path} lists level {level} at {chosen.path!r}, but contains no array there",
            hint="check that the copy is complete, or choose another level with --level N",
        )
    names = named_axes(array.attrs, dimension_names=getattr(array.metadata, "dimension_names", None))
    return opened(path, array, chosen.facts(path, array.shape, names), selection, voxel_size_nm)


def checked(volume: Volume) -> Volume:
    """Return the volume. Raises InputError if it is empty, if files are missing, or if its voxel size is unusable."""
    if min(volume.shape) == 0:
        raise InputError(f"{volume.path} is empty: its shape is {volume.shape}")
    if volume.voxel_size_nm is not None:
        check_voxel_size(volume.path, volume.voxel_size_nm)
    require_chunks(volume.array, volume.path)
    return volume


def check_voxel_size(path: str, size: Nanometres) -> None:
    """Raise InputError unless the voxel size is three positive numbers."""
    if not all(0 < edge < float("inf") for edge in size):
        raise InputError(
            f"{path} has voxel size {size} nm, expected three positive numbers",
            hint="correct the voxel size in the file (nm, z y x), or give it with --voxel-size if the command has it",
        )


def require_voxel_size(volume: Volume) -> Nanometres:
    """Return the volume's voxel size. If it is unknown, raise InputError with the option for it."""
    if volume.voxel_size_nm is None:
        reason = volume.no_size_reason or "no OME-NGFF scale, voxel_size or resolution attribute"
        raise InputError(
            f"{volume.path} has no voxel size ({reason})",
            hint="give it in nm in the order z y x, for example --voxel-size 10 10 10",
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
    convention: str = CENTRE,
    corner_nm: Nanometres | None = None,
) -> None:
    """Create an OME-NGFF 0.5 image with one level, `path/0`, sharded by `block`. Voxels are 0 until written.

    `convention` is the convention of `offset_nm`. `corner_nm` is the same offset as plain arrays state it (default:
    `offset_nm`). Write whole shards, with `open_array(path / "0", writable=True)`. More levels: `write_levels`.
    """
    levels: list[tuple[str, Triple]] = [("0", (1, 1, 1))]
    image = ome_attributes(name or path.stem, levels, voxel_size_nm, offset_nm, labels=labels, convention=convention)
    create_group(path, image)
    attributes = array_attributes(voxel_size_nm, offset_nm if corner_nm is None else corner_nm)
    create_array(path / "0", shape=shape, dtype=dtype, block=block, attributes=attributes)


def write_levels(
    path: Place,
    levels: Sequence[tuple[str, Triple]],
    grid: Grid,
    *,
    labels: bool,
    name: str,
    more: Mapping[str, Any],
) -> None:
    """Replace the metadata of an OME-NGFF image: list `levels` (path, factors) and add the attributes `more`."""
    image = ome_attributes(name, levels, grid.voxel_size_nm, grid.offset_nm, labels=labels, convention=grid.convention)
    create_group(path, {**image, **more})

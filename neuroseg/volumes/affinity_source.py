"""Affinities as uint8, for the stages that read them: our own, those of another network, or a boundary map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.errors import InputError
from neuroseg.geometry import Nanometres, Triple, contact_channels, parse_offsets, slices, triple
from neuroseg.storage.chunk_files import read_box
from neuroseg.storage.naming import HDF5_SUFFIXES
from neuroseg.volumes.addresses import open_any
from neuroseg.volumes.axes import Layout
from neuroseg.volumes.chunk_cache import cached_read
from neuroseg.volumes.content import Content, content_of
from neuroseg.volumes.input_checks import require_probabilities
from neuroseg.volumes.placement import UNKNOWN
from neuroseg.volumes.selection import WHOLE_FILE, Selection
from neuroseg.volumes.soundness import require_regular_chunks
from neuroseg.volumes.volume import Volume, facts_of_zarr, opened, require_voxel_size
from neuroseg.volumes.zarr_nodes import open_node

BOUNDARY_OFFSETS: tuple[Triple, ...] = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
_NAMED_ARRAYS = 8
ReadAffinities = Callable[[Roi], NDArray[np.uint8]]


@dataclass(frozen=True)
class AffinitySource:
    """The address of affinities. `kind` is `affinities` (c, z, y, x) or `boundaries` (z, y, x; 1 = boundary).

    `channels` are the channels of the stored array to read, None for all. `offsets` has one offset for each of them.
    """

    path: str
    kind: str
    offsets: tuple[Triple, ...]
    shape: Triple
    voxel_size_nm: Nanometres
    offset_nm: Nanometres
    identity: str
    channels: tuple[int, ...] | None = None
    content: Content | None = field(default=None, compare=False)
    selection: Selection = WHOLE_FILE
    corner_nm: Nanometres | None = None
    zero: str = UNKNOWN

    def only(self, channels: Sequence[int]) -> AffinitySource:
        """Return the same affinities with only these channels, in this order."""
        if tuple(channels) == tuple(range(len(self.offsets))):
            return self
        stored = self.channels or range(len(self.offsets))
        offsets = tuple(self.offsets[channel] for channel in channels)
        return replace(self, offsets=offsets, channels=tuple(stored[channel] for channel in channels))

    @property
    def links(self) -> dict[str, Any]:
        """The channels that are read and their offsets, as part of a stage's identity."""
        channels = self.channels or range(len(self.offsets))
        return {"channels": list(channels), "offsets": [list(offset) for offset in self.offsets]}

    def open(self) -> ReadAffinities:
        """Return the function that reads a region as uint8 `(c, z, y, x)`. It quantises float values.

        The function raises InputError that names the first voxel with a value outside [0, 1] or not finite.
        """
        if self.kind == "boundaries":
            return _boundary_reader(open_any(self.path, voxel_size_nm=self.voxel_size_nm, selection=self.selection))
        stored = open_stored(self.path, self.selection)
        array, layout = stored.array, stored.layout
        channels: Any = slice(None) if self.channels is None else list(self.channels)

        def read(roi: Roi) -> NDArray[np.uint8]:
            require_regular_chunks(array, layout.index(slices(roi)))
            index = layout.index(slices(roi), channels)
            values = layout.arranged(read_box(array, index) if self.channels is None else array.oindex[index])
            require_unit_interval(values, self.path, roi.begin)
            return quantised(values)

        if array.dtype != np.uint8:
            return read  # do not read beyond the block: a wrong value must fail in the block that contains it
        chunk = stored.chunks or self.shape
        return cached_read(read, shape=self.shape, chunk=chunk, voxel_bytes=len(self.offsets))


def require_unit_interval(
    values: NDArray[Any], path: str, begin: Sequence[int], channels: Sequence[int] | None = None
) -> None:
    """Raise InputError that names the first value outside [0, 1] or not finite, and the range found.

    `values` `([c,] z, y, x)` begin at voxel `begin`. `channels` are their channels in the stored array (default: the
    index along c). uint8 values are always valid.
    """
    # A NaN makes both comparisons false.
    if values.dtype == np.uint8 or not values.size or (values.min() >= 0 and values.max() <= 1):
        return
    wrong = ~((values >= 0) & (values <= 1))
    at = np.unravel_index(int(wrong.argmax()), values.shape)
    place = ", ".join(str(int(start + step)) for start, step in zip(begin, at[-3:], strict=True))
    channel = "".join(f"channel {number}, " for number in (at[:-3] if channels is None else channels))
    finite = values[np.isfinite(values)]
    found = f"values {finite.min():g} to {finite.max():g}" if finite.size else "no finite value"
    may_be_bytes = finite.size and 1 < finite.max() <= 255 and finite.min() >= 0
    raise InputError(
        f"{path}: {channel}voxel ({place}) (z, y, x) is {values[at]:g}, expected 0 to 1. Of the "
        f"{' x '.join(map(str, values.shape[-3:]))} voxels from ({', '.join(map(str, begin))}), {int(wrong.sum())} are "
        f"unusable ({found}, {values.size - finite.size} not finite)",
        hint="if 255 stands for 1, divide the values by 255" if may_be_bytes else "",
    )


def quantised(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return floor(255 a + 0.5) of float values a in [0, 1], and uint8 values unchanged."""
    if values.dtype == np.uint8:
        return values
    rounded: NDArray[np.uint8] = np.floor(values * values.dtype.type(255) + values.dtype.type(0.5)).astype(np.uint8)
    return rounded


def affinities_of_interior(inside: NDArray[np.uint8], lead: Sequence[int]) -> NDArray[np.uint8]:
    """Return affinities `(3, z, y, x)`: the smaller of 1 - boundary (uint8) at v and at its lower neighbour.

    `lead` is the number of voxels (0 or 1) before the wanted region along z, y, x. A voxel without a lower neighbour
    keeps its own value.
    """
    wanted = inside[tuple(slice(step, None) for step in lead)]
    out = np.empty((3, *wanted.shape), np.uint8)
    for axis in range(3):
        lower = inside
        if not lead[axis]:
            first = inside.take([0], axis)
            lower = np.concatenate([first, inside], axis)
        box = tuple(slice(0, wanted.shape[a]) if a == axis else slice(lead[a], None) for a in range(3))
        out[axis] = np.minimum(wanted, lower[box])
    return out


def _arrays_in(path: str, group: Any) -> str:
    """Return the paths and shapes of the arrays in a group as text."""
    members = [(name, node) for name, node in sorted(group.members()) if hasattr(node, "shape")]
    return ", ".join(f"{path.rstrip('/')}/{name} {tuple(node.shape)}" for name, node in members[:_NAMED_ARRAYS])


def open_stored(path: str, selection: Selection = WHOLE_FILE, voxel_size_nm: Nanometres | None = None) -> Volume:
    """Return the stored affinities at a zarr path as a volume that reads all channels `(c, z, y, x)`."""
    file, colon, dataset = path.rpartition(":")
    if colon and Path(file).suffix.lower() in HDF5_SUFFIXES:
        raise InputError(
            f"{path} is an HDF5 dataset, expected affinities in a zarr array",
            hint=f"copy it to zarr: python -c \"import h5py, zarr; a = h5py.File('{file}')['{dataset}']; "
            "zarr.create_array('affinities.zarr', data=a[:], chunks=(1, 64, 64, 64))\", then run neuroseg segment "
            "--affinities affinities.zarr",
        )
    if Path(path).suffix.lower() in HDF5_SUFFIXES and Path(path).is_file():
        raise InputError(
            f"{path} is an HDF5 file, expected affinities in a zarr array", hint="copy its dataset to a zarr array"
        )
    array = open_node(path)
    if not hasattr(array, "shape"):
        arrays = _arrays_in(path, array)
        raise InputError(
            f"{path} is a group{'' if arrays else ' without arrays'}, expected an array (channel, z, y, x)",
            hint=f"give the path of an array inside: {arrays}" if arrays else "",
        )
    if array.ndim < 4:
        raise InputError(f"{path} has shape {tuple(array.shape)}, expected an array (channel, z, y, x)")
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise InputError(f"{path} contains {array.dtype} values, expected affinities as float in [0, 1] or uint8")
    return opened(path, array, facts_of_zarr(path, array), selection, voxel_size_nm, channels=True)


def open_affinities(
    path: str,
    offsets: object,
    voxel_size_nm: Nanometres | None,
    selection: Selection = WHOLE_FILE,
    *,
    force: bool = False,
) -> AffinitySource:
    """Return the affinities at a zarr path. Offsets (z, y, x) come from the argument or the attribute `offsets`.

    The channel axis is the axis named channel or c; without names, the first of four.
    """
    stored = open_stored(path, selection, voxel_size_nm)
    stated = offsets if offsets is not None else stored.array.attrs.get("offsets")
    if stated is None:
        raise InputError(
            f"{path} has no attribute `offsets`, expected one offset (z, y, x) per channel",
            hint="give the offset between the voxels that each channel links: --offsets='-1,0,0;0,-1,0;0,0,-1'",
        )
    parsed = parse_offsets(stated)
    if offsets is None and sorted(stored.layout.spatial) != list(stored.layout.spatial):
        parsed = tuple(triple(_in_order(row, stored.layout)) for row in parsed)
    channels = range(stored.array.shape[stored.layout.channel or 0])
    if len(parsed) != len(channels):
        raise InputError(
            f"{path} has {len(channels)} channels but {len(parsed)} offsets {list(parsed)}",
            hint="give one offset z,y,x per channel, separated by semicolons, with --offsets",
        )
    require_voxel_size(stored)
    _require_contacts(path, parsed)
    _require_values(stored, force=force)
    return _source(stored, "affinities", parsed, content_of(stored), selection)


def _require_contacts(path: str, offsets: tuple[Triple, ...]) -> None:
    """Raise InputError that names the file if no channel links direct neighbours along an axis."""
    try:
        contact_channels(offsets)
    except InputError as error:
        raise InputError(
            f"{path}: {error}",
            hint="check the offset of each channel, and correct them with --offsets='-1,0,0;0,-1,0;0,0,-1'",
        ) from error


def _in_order(row: Triple, layout: Layout) -> list[int]:
    """Return an offset in the stored order of axes as (z, y, x)."""
    stored = sorted(layout.spatial)
    return [row[stored.index(dimension)] for dimension in layout.spatial]


def open_boundaries(
    path: str, voxel_size_nm: Nanometres | None, selection: Selection = WHOLE_FILE, *, force: bool = False
) -> AffinitySource:
    """Return a boundary map `(z, y, x)`, 1 (or 255) = boundary, as affinities."""
    volume = open_any(path, voxel_size_nm=voxel_size_nm, selection=selection)
    if volume.dtype != np.uint8 and volume.dtype.kind != "f":
        raise InputError(f"{path} contains {volume.dtype} values, expected boundaries as float in [0, 1] or uint8")
    require_voxel_size(volume)
    _require_values(volume, force=force)
    return _source(volume, "boundaries", BOUNDARY_OFFSETS, content_of(volume), selection)


def _source(
    volume: Volume, kind: str, offsets: tuple[Triple, ...], content: Content, selection: Selection
) -> AffinitySource:
    size, place = require_voxel_size(volume), volume.offset_nm
    return AffinitySource(
        volume.path, kind, offsets, volume.shape, size, place, content.identity, content=content, selection=selection,
        corner_nm=volume.corner_nm, zero=volume.zero,
    )  # fmt: skip


def _require_values(stored: Volume, *, force: bool) -> None:
    """Raise InputError for unusable values in the sampled regions of the channels, before anything is written."""
    require_probabilities(stored, force=force)
    for volume in stored.channels() if stored.dtype != np.uint8 else []:
        for roi in volume.checked_regions():
            require_unit_interval(
                volume.read(roi), volume.path, roi.begin, channels=[index for _, index in volume.layout.fixed]
            )


def _boundary_reader(volume: Volume) -> ReadAffinities:
    def read(roi: Roi) -> NDArray[np.uint8]:
        lead = [1 if begin > 0 else 0 for begin in roi.begin]
        wide = roi.grow(lead, (0, 0, 0))
        boundaries = volume.read(wide)
        require_unit_interval(boundaries, volume.path, wide.begin)
        inside = 255 - boundaries if boundaries.dtype == np.uint8 else 1 - boundaries
        return affinities_of_interior(quantised(inside), lead)

    return read

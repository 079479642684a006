"""Affinities as the stages read them: our own, another network's, or a boundary map, always uint8."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.errors import InputError
from neuroseg.geometry import Nanometres, Triple, contact_channels, parse_offsets, slices, triple
from neuroseg.storage.arrays import open_node
from neuroseg.storage.cells import remembering
from neuroseg.storage.content import Content, content_of, sample_checksums
from neuroseg.storage.files import HDF5_SUFFIXES, open_any
from neuroseg.storage.first_look import require_shares
from neuroseg.storage.metadata import plain_metadata
from neuroseg.storage.volumes import Volume, check_voxel_size, checked

BOUNDARY_OFFSETS: tuple[Triple, ...] = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
ReadAffinities = Callable[[Roi], NDArray[np.uint8]]


@dataclass(frozen=True)
class AffinitySource:
    """Where affinities lie. `kind` is `affinities` (c, z, y, x) or `boundaries` (z, y, x, 1 = boundary).

    `channels` are those of the stored array that are read, None for all; `offsets` are theirs.
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

    def only(self, channels: Sequence[int]) -> AffinitySource:
        """Return the same affinities with these of its channels alone, in this order."""
        if tuple(channels) == tuple(range(len(self.offsets))):
            return self
        stored = self.channels or range(len(self.offsets))
        offsets = tuple(self.offsets[channel] for channel in channels)
        return replace(self, offsets=offsets, channels=tuple(stored[channel] for channel in channels))

    @property
    def links(self) -> dict[str, Any]:
        """Which channels are read and what they link, as part of a stage's identity."""
        channels = self.channels or range(len(self.offsets))
        return {"channels": list(channels), "offsets": [list(offset) for offset in self.offsets]}

    def open(self) -> ReadAffinities:
        """Return the function that reads a region as uint8 `(c, z, y, x)`; float values are quantised on read.

        The function raises InputError naming the first voxel whose value is not finite or not in [0, 1].
        """
        if self.kind == "boundaries":
            return _boundary_reader(open_any(self.path, voxel_size_nm=self.voxel_size_nm))
        array = open_node(self.path)
        selection, channels = (array, slice(None)) if self.channels is None else (array.oindex, list(self.channels))

        def read(roi: Roi) -> NDArray[np.uint8]:
            values = np.asarray(selection[(channels, *slices(roi))])
            require_unit_interval(values, self.path, roi.begin)
            return quantised(values)

        if array.dtype != np.uint8:
            return read  # what is wrong with a value is said by the block that needs it
        return remembering(read, shape=self.shape, chunk=array.chunks[-3:], voxel_bytes=len(self.offsets))


def require_unit_interval(
    values: NDArray[Any], path: str, begin: Sequence[int], channels: Sequence[int] | None = None
) -> None:
    """Raise InputError naming the first value that is not finite or not in [0, 1], and what range was found.

    Takes `([c,] z, y, x)` whose first voxel lies at `begin`, of the given channels (default all, where there are any);
    uint8 values are always right.
    """
    # A NaN makes both comparisons false.
    if values.dtype == np.uint8 or not values.size or (values.min() >= 0 and values.max() <= 1):
        return
    wrong = ~((values >= 0) & (values <= 1))
    at = np.unravel_index(int(wrong.argmax()), values.shape)
    place = ", ".join(str(int(start + step)) for start, step in zip(begin, at[-3:], strict=True))
    channel = "".join(f"channel {number}, " for number in (at[:-3] if channels is None else channels))
    finite = values[np.isfinite(values)]
    found = f"{finite.min():g} to {finite.max():g}" if finite.size else "nothing finite"
    scale = "; divide them by 255" if finite.size and 1 < finite.max() <= 255 and finite.min() >= 0 else ""
    raise InputError(
        f"{path}: {channel}voxel ({place}) (z, y, x) is {values[at]:g}; values must be finite and in [0, 1]. In the "
        f"{' x '.join(map(str, values.shape[-3:]))} voxels from ({', '.join(map(str, begin))}): {found}, "
        f"{values.size - finite.size} not finite, {int(wrong.sum())} unusable in all{scale}"
    )


def quantised(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return floor(255 a + 0.5) of float values in [0, 1]; uint8 values as they are."""
    if values.dtype == np.uint8:
        return values
    rounded: NDArray[np.uint8] = np.floor(values * values.dtype.type(255) + values.dtype.type(0.5)).astype(np.uint8)
    return rounded


def affinities_of_interior(inside: NDArray[np.uint8], lead: Sequence[int]) -> NDArray[np.uint8]:
    """Return affinities `(3, z, y, x)`: the smaller of 1 - boundary (uint8) at v and at its lower neighbour.

    `lead` says how many voxels (0 or 1) precede the wanted region along z, y, x. A voxel without a lower neighbour
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


def open_affinities(path: str, offsets: object, voxel_size_nm: Nanometres | None) -> AffinitySource:
    """Return the affinities `(c, z, y, x)` at a zarr path, offsets from the argument or the attribute `offsets`."""
    if any(f"{suffix}:" in path for suffix in HDF5_SUFFIXES):
        raise InputError(f"{path}: affinities are read in place from zarr; copy the dataset to a zarr array first")
    array = open_node(path)
    if not hasattr(array, "shape") or array.ndim != 4:
        found = f"shape {tuple(array.shape)}" if hasattr(array, "shape") else "a group"
        raise InputError(f"{path} must be an array (channel, z, y, x), found {found}")
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise InputError(f"{path} holds {array.dtype} values; affinities are float in [0, 1] or uint8")
    stated = offsets if offsets is not None else array.attrs.get("offsets")
    if stated is None:
        raise InputError(
            f"{path} has no attribute `offsets`; say which voxels each channel links: --offsets='-1,0,0;0,-1,0;0,0,-1'"
        )
    parsed = parse_offsets(stated)
    if len(parsed) != array.shape[0]:
        raise InputError(f"{path} has {array.shape[0]} channels but {len(parsed)} offsets {list(parsed)}")
    size, offset = plain_metadata(array.attrs, 4)
    size = voxel_size_nm or size
    if size is None:
        raise InputError(f"{path} has no voxel size; give it in nm, for example --voxel-size 10 10 10 (z y x)")
    check_voxel_size(path, size)
    contact_channels(parsed)  # raises where an axis has none
    channels = [checked(Volume(path, array, size, offset, (channel,))) for channel in range(len(parsed))]
    for channel in channels:
        _require_values(channel)
    content = content_of(channels[0], [checksum for channel in channels for checksum in sample_checksums(channel)])
    shape = triple(array.shape[1:])
    return AffinitySource(path, "affinities", parsed, shape, size, offset, content.identity, content=content)


def open_boundaries(path: str, voxel_size_nm: Nanometres | None) -> AffinitySource:
    """Return a boundary map `(z, y, x)`, 1 (or 255) = boundary, as affinities."""
    volume = open_any(path, voxel_size_nm=voxel_size_nm)
    if volume.dtype != np.uint8 and volume.dtype.kind != "f":
        raise InputError(f"{path} holds {volume.dtype} values; boundaries are float in [0, 1] or uint8")
    if volume.voxel_size_nm is None:
        raise InputError(f"{path} has no voxel size; give it in nm, for example --voxel-size 10 10 10 (z y x)")
    _require_values(volume)
    content, size = content_of(volume), volume.voxel_size_nm
    return AffinitySource(
        path, "boundaries", BOUNDARY_OFFSETS, volume.shape, size, volume.offset_nm, content.identity, content=content
    )


def _require_values(volume: Volume) -> None:
    """Raise InputError for unusable values where a volume is looked at before anything is written."""
    require_shares(volume)
    if volume.dtype != np.uint8:
        for roi in volume.first_look():
            require_unit_interval(volume.read(roi), volume.path, roi.begin, channels=volume.lead)


def _boundary_reader(volume: Volume) -> ReadAffinities:
    def read(roi: Roi) -> NDArray[np.uint8]:
        lead = [1 if begin > 0 else 0 for begin in roi.begin]
        wide = roi.grow(lead, (0, 0, 0))
        boundaries = volume.read(wide)
        require_unit_interval(boundaries, volume.path, wide.begin)
        inside = 255 - boundaries if boundaries.dtype == np.uint8 else 1 - boundaries
        return affinities_of_interior(quantised(inside), lead)

    return read

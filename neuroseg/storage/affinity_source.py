"""Affinities as the stages read them: our own, another network's, or a boundary map, always uint8."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.errors import InputError, NeurosegError
from neuroseg.geometry import Nanometres, Triple, contact_channels, describe, parse_offsets, slices, triple
from neuroseg.storage.arrays import open_node
from neuroseg.storage.files import HDF5_SUFFIXES, open_any
from neuroseg.storage.metadata import plain_metadata
from neuroseg.storage.volumes import Volume

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

        The function raises NeurosegError naming the region where a value is not finite or not in [0, 1].
        """
        if self.kind == "boundaries":
            return _boundary_reader(open_any(self.path, voxel_size_nm=self.voxel_size_nm))
        array = open_node(self.path)
        selection, channels = (array, slice(None)) if self.channels is None else (array.oindex, list(self.channels))
        return lambda roi: quantised(np.asarray(selection[(channels, *slices(roi))]), f"{self.path} at {describe(roi)}")


def quantised(values: NDArray[Any], where: str) -> NDArray[np.uint8]:
    """Return floor(255 a + 0.5) of float values in [0, 1]; uint8 values as they are."""
    if values.dtype == np.uint8:
        return values
    if values.size and not (np.nanmin(values) >= 0 and np.nanmax(values) <= 1 and np.isfinite(values).all()):
        finite = values[np.isfinite(values)]
        found = f"{finite.min():g} to {finite.max():g}" if finite.size else "nothing finite"
        raise NeurosegError(
            f"{where}: affinities must be finite and in [0, 1]; found {found} and "
            f"{int((~np.isfinite(values)).sum())} values that are not finite"
        )
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
    contact_channels(parsed)  # raises where an axis has none
    samples = [Volume(path, array, size, offset, (channel,)).identity() for channel in range(len(parsed))]
    identity = hashlib.sha256("".join(samples).encode()).hexdigest()
    return AffinitySource(path, "affinities", parsed, triple(array.shape[1:]), size, offset, identity)


def open_boundaries(path: str, voxel_size_nm: Nanometres | None) -> AffinitySource:
    """Return a boundary map `(z, y, x)`, 1 (or 255) = boundary, as affinities."""
    volume = open_any(path, voxel_size_nm=voxel_size_nm)
    if volume.dtype != np.uint8 and volume.dtype.kind != "f":
        raise InputError(f"{path} holds {volume.dtype} values; boundaries are float in [0, 1] or uint8")
    if volume.voxel_size_nm is None:
        raise InputError(f"{path} has no voxel size; give it in nm, for example --voxel-size 10 10 10 (z y x)")
    return AffinitySource(
        path, "boundaries", BOUNDARY_OFFSETS, volume.shape, volume.voxel_size_nm, volume.offset_nm, volume.identity()
    )


def _boundary_reader(volume: Volume) -> ReadAffinities:
    def read(roi: Roi) -> NDArray[np.uint8]:
        lead = [1 if begin > 0 else 0 for begin in roi.begin]
        wide = roi.grow(lead, (0, 0, 0))
        boundaries = volume.read(wide)
        inside = 255 - boundaries if boundaries.dtype == np.uint8 else 1 - boundaries
        return affinities_of_interior(quantised(inside, f"{volume.path} at {describe(wide)}"), lead)

    return read

"""Affinities as the stages read them: our own, another network's, or a boundary map, always uint8."""

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
from neuroseg.storage.naming import HDF5_SUFFIXES
from neuroseg.volumes.addresses import open_any
from neuroseg.volumes.axes import Layout
from neuroseg.volumes.chunk_cache import cached_read
from neuroseg.volumes.content import Content, content_of, sample_checksums
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
    selection: Selection = WHOLE_FILE
    corner_nm: Nanometres | None = None
    zero: str = UNKNOWN

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
            return _boundary_reader(open_any(self.path, voxel_size_nm=self.voxel_size_nm, selection=self.selection))
        stored = open_stored(self.path, self.selection)
        array, layout = stored.array, stored.layout
        selected, channels = (array, slice(None)) if self.channels is None else (array.oindex, list(self.channels))

        def read(roi: Roi) -> NDArray[np.uint8]:
            require_regular_chunks(array, layout.index(slices(roi)))
            values = layout.arranged(np.asarray(selected[layout.index(slices(roi), channels)]))
            require_unit_interval(values, self.path, roi.begin)
            return quantised(values)

        if array.dtype != np.uint8:
            return read  # what is wrong with a value is said by the block that needs it
        chunk = stored.chunks or self.shape
        return cached_read(read, shape=self.shape, chunk=chunk, voxel_bytes=len(self.offsets))


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


def _arrays_in(path: str, group: Any) -> str:
    """Return what a group has to offer, as text."""
    members = [(name, node) for name, node in sorted(group.members()) if hasattr(node, "shape")]
    named = ", ".join(f"{path.rstrip('/')}/{name} {tuple(node.shape)}" for name, node in members[:_NAMED_ARRAYS])
    return f"a group; name an array inside: {named}" if named else "a group without arrays"


def open_stored(path: str, selection: Selection = WHOLE_FILE, voxel_size_nm: Nanometres | None = None) -> Volume:
    """Return affinities as they are stored at a zarr path, a volume that reads all channels `(c, z, y, x)`."""
    file, colon, dataset = path.rpartition(":")
    if colon and Path(file).suffix.lower() in HDF5_SUFFIXES:
        raise InputError(
            f"{path}: affinities are read in place from zarr, not from HDF5; copy the dataset first: python -c "
            f"\"import h5py, zarr; a = h5py.File('{file}')['{dataset}']; zarr.create_array('affinities.zarr', "
            'data=a[:], chunks=(1, 64, 64, 64))", then: neuroseg segment --affinities affinities.zarr'
        )
    if Path(path).suffix.lower() in HDF5_SUFFIXES and Path(path).is_file():
        raise InputError(f"{path} is an HDF5 file; affinities are read in place from zarr: copy its dataset to one")
    array = open_node(path)
    if not hasattr(array, "shape") or array.ndim < 4:
        found = f"shape {tuple(array.shape)}" if hasattr(array, "shape") else _arrays_in(path, array)
        raise InputError(f"{path} must be an array (channel, z, y, x), found {found}")
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise InputError(f"{path} holds {array.dtype} values; affinities are float in [0, 1] or uint8")
    return opened(path, array, facts_of_zarr(path, array), selection, voxel_size_nm, channels=True)


def open_affinities(
    path: str,
    offsets: object,
    voxel_size_nm: Nanometres | None,
    selection: Selection = WHOLE_FILE,
    *,
    force: bool = False,
) -> AffinitySource:
    """Return the affinities at a zarr path, offsets (z, y, x) from the argument or the attribute `offsets`.

    Their channel axis is the one named so, the first of four where none has a name.
    """
    stored = open_stored(path, selection, voxel_size_nm)
    stated = offsets if offsets is not None else stored.array.attrs.get("offsets")
    if stated is None:
        raise InputError(
            f"{path} has no attribute `offsets`; say which voxels each channel links: --offsets='-1,0,0;0,-1,0;0,0,-1'"
        )
    parsed = parse_offsets(stated)
    if offsets is None and sorted(stored.layout.spatial) != list(stored.layout.spatial):
        parsed = tuple(triple(_in_order(row, stored.layout)) for row in parsed)
    channels = range(stored.array.shape[stored.layout.channel or 0])
    if len(parsed) != len(channels):
        raise InputError(f"{path} has {len(channels)} channels but {len(parsed)} offsets {list(parsed)}")
    require_voxel_size(stored)
    contact_channels(parsed)  # raises where an axis has none
    _require_values(_channels(stored), force=force)
    return _source(stored, "affinities", parsed, affinities_content(stored), selection)


def _channels(stored: Volume) -> list[Volume]:
    """Return the channels of affinities as volumes."""
    count = stored.array.shape[stored.layout.channel or 0]
    return [replace(stored, layout=stored.layout.only(channel)) for channel in range(count)]


def affinities_content(stored: Volume) -> Content:
    """Return what identifies affinities: samples of every channel."""
    return content_of(stored, [checksum for volume in _channels(stored) for checksum in sample_checksums(volume)])


def _in_order(row: Triple, layout: Layout) -> list[int]:
    """Return an offset that follows the stored order of the axes as (z, y, x)."""
    stored = sorted(layout.spatial)
    return [row[stored.index(dimension)] for dimension in layout.spatial]


def open_boundaries(
    path: str, voxel_size_nm: Nanometres | None, selection: Selection = WHOLE_FILE, *, force: bool = False
) -> AffinitySource:
    """Return a boundary map `(z, y, x)`, 1 (or 255) = boundary, as affinities."""
    volume = open_any(path, voxel_size_nm=voxel_size_nm, selection=selection)
    if volume.dtype != np.uint8 and volume.dtype.kind != "f":
        raise InputError(f"{path} holds {volume.dtype} values; boundaries are float in [0, 1] or uint8")
    require_voxel_size(volume)
    _require_values([volume], force=force)
    return _source(volume, "boundaries", BOUNDARY_OFFSETS, content_of(volume), selection)


def _source(
    volume: Volume, kind: str, offsets: tuple[Triple, ...], content: Content, selection: Selection
) -> AffinitySource:
    size, place = require_voxel_size(volume), volume.offset_nm
    return AffinitySource(
        volume.path, kind, offsets, volume.shape, size, place, content.identity, content=content, selection=selection,
        corner_nm=volume.corner_nm, zero=volume.zero,
    )  # fmt: skip


def _require_values(channels: Sequence[Volume], *, force: bool) -> None:
    """Raise InputError for unusable values where channels are looked at before anything is written."""
    require_probabilities(channels, force=force)
    for volume in channels:
        if volume.dtype != np.uint8:
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

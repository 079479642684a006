"""Labelled volumes on disk -> arrays in memory, with their shape descriptors."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import fastremap
import numpy as np
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray

from neuroseg.errors import InputError
from neuroseg.geometry import Nanometres, Triple, describe, parse_roi, triple
from neuroseg.networks.orientations import Orientation
from neuroseg.training.data.affinity_targets import UNLABELLED
from neuroseg.training.data.catalogue import found
from neuroseg.training.data.descriptors import shape_descriptors
from neuroseg.training.data.samples import LabelledVolume
from neuroseg.training.data.value_checks import require_labels, require_raw
from neuroseg.training.data_settings import VolumeSettings
from neuroseg.volumes.addresses import open_any
from neuroseg.volumes.volume import Volume, require_voxel_size

logger = logging.getLogger(__name__)
_SAME_SIZE = 1e-3


@dataclass(frozen=True)
class OpenedVolume:
    """A labelled volume, opened but not read, and the region of raw to use.

    `shift`: position of the labels in raw, in voxels. `surround`: voxels of raw on each side of the region that patches
    may also show. `share`: share of the training samples from this volume (see data_settings.py).
    """

    raw: Volume
    labels: Volume
    region: Roi
    voxel_size_nm: tuple[float, float, float]
    shift: Triple = (0, 0, 0)
    surround: Triple = (0, 0, 0)
    share: float | None = None

    @property
    def surroundings(self) -> Roi:
        """The region grown by `surround`, cut to the volume."""
        return self.region.grow(Coordinate(self.surround), Coordinate(self.surround)).intersect(self.raw.roi)

    def read_known(self, region: Roi) -> NDArray[np.uint32]:
        """Return the labels `(z, y, x)` of a region of raw. UNLABELLED outside the labels or the used region."""
        out = np.full(tuple(region.shape), UNLABELLED)
        used = region.intersect(self.region).intersect(self.labels.roi.shift(Coordinate(self.shift)))
        if not used.empty:
            out[_within(used, region)] = self.read_labels(used)
        return out

    def read_labels(self, region: Roi) -> NDArray[np.uint32]:
        """Return the labels `(z, y, x)` of a region of raw. 0 outside the labels.

        Ids that do not fit into 32 bits are renumbered. The largest 64-bit value means no label and becomes 0.
        """
        part = region.intersect(self.labels.roi.shift(Coordinate(self.shift)))
        out = np.zeros(tuple(region.shape), np.uint32)
        if part.empty:
            return out
        ids = self.labels.read(part.shift(-Coordinate(self.shift)))
        if ids.dtype.itemsize == 8:
            ids = np.where(ids == np.iinfo(ids.dtype).max, 0, ids)
            if int(ids.max()) >= UNLABELLED:
                ids, _ = fastremap.renumber(ids, preserve_zero=True)
        out[_within(part, region)] = ids.astype(np.uint32)
        return out


def _within(part: Roi, region: Roi) -> tuple[slice, ...]:
    return tuple(slice(b - o, e - o) for b, e, o in zip(part.begin, part.end, region.begin, strict=True))


def open_labelled(settings: VolumeSettings, folders: Sequence[str]) -> OpenedVolume:
    """Return the opened volume. Labels with an offset may be smaller than raw; the region is cut to them.

    Raises InputError for missing files, for labels that do not fit into raw, and for a region without labels.
    """
    raw, labels = (
        open_any(found(address, tuple(folders), settings.volume), voxel_size_nm=settings.voxel_size_nm)
        for address in (settings.raw, settings.labels)
    )
    require_raw(raw)
    require_labels(labels)
    size = require_voxel_size(raw)
    _require_same_size(raw, labels, size)
    shift = _shift(raw, labels, size)
    placed = labels.roi.shift(Coordinate(shift))
    region = parse_roi(settings.region, raw.shape) if settings.region else placed
    if not raw.roi.contains(placed) or (not labels.placed and raw.shape != labels.shape):
        raise InputError(
            f"labels {labels.path} with shape {labels.shape} at {shift} do not fit into raw {raw.path} with shape "
            f"{raw.shape}",
            hint="use labels of the same shape, or give them an attribute offset (nm) inside raw",
        )
    if region.intersect(placed).empty:
        raise InputError(
            f"the region {describe(region)} of {raw.path} has no labels: {labels.path} covers {describe(placed)}"
        )
    return OpenedVolume(raw, labels, region.intersect(placed), size, shift, settings.surround_voxels, settings.share)


def _require_same_size(raw: Volume, labels: Volume, size: Nanometres) -> None:
    """Raise InputError if the labels have another voxel size than raw."""
    own = labels.voxel_size_nm
    if own is not None and not all(math.isclose(a, b, rel_tol=_SAME_SIZE) for a, b in zip(own, size, strict=True)):
        raise InputError(
            f"labels {labels.path} have voxels of {own} nm, raw {raw.path} has voxels of {size} nm",
            hint="use the same pyramid level of both, or set the correct size with voxel_size_nm or --voxel-size",
        )


def _shift(raw: Volume, labels: Volume, size: Nanometres) -> Triple:
    """Return the position of the labels in raw, in voxels."""
    if not labels.placed or raw.shape == labels.shape:
        return (0, 0, 0)
    apart = zip(labels.offset_nm, raw.offset_nm, size, strict=True)
    return triple([round((inner - outer) / edge) for inner, outer, edge in apart])


def read_labelled(
    opened: OpenedVolume, *, patch: tuple[int, int, int], turned: Sequence[Orientation], descriptor_sigma_nm: float
) -> LabelledVolume:
    """Read the region and its surroundings into memory. Mirror raw where the surroundings exceed the volume.

    If this is smaller than a patch in one of the orientations `turned`, raw and labels are mirrored on both sides.
    """
    place = opened.surroundings
    raw, labels = opened.raw.read(place), opened.read_known(place)
    # Mirror raw at the faces of the volume, as prediction does. Patches then cover a region at a face completely.
    past = [
        (around - (begin - low), around - (high - end))
        for around, begin, end, low, high in zip(
            opened.surround, opened.region.begin, opened.region.end, place.begin, place.end, strict=True
        )
    ]
    raw = np.pad(raw, past, mode="reflect")
    labels = np.pad(labels, past, constant_values=UNLABELLED)
    needed = np.max([orientation.source_shape(patch) for orientation in turned], axis=0)
    short = [max(0, int(width) - size) for width, size in zip(needed, raw.shape, strict=True)]
    if any(short):
        logger.info(
            "%s: smaller than a patch, extended by mirroring by %s voxels (z, y, x)", opened.raw.path, tuple(short)
        )
        ends = [(width // 2, width - width // 2) for width in short]
        raw, labels = (np.pad(array, ends, mode="reflect") for array in (raw, labels))
    descriptors = None
    if descriptor_sigma_nm > 0:
        z, y, x = (descriptor_sigma_nm / edge for edge in opened.voxel_size_nm)
        objects = np.where(labels == UNLABELLED, 0, labels)
        descriptors = shape_descriptors(objects, (z, y, x)).astype(np.float16)
    return LabelledVolume(raw, labels, opened.voxel_size_nm, descriptors, opened.share)

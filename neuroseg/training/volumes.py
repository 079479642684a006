"""Labelled volumes on disk -> arrays in memory, with their shape descriptors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from funlib.geometry import Roi

from neuroseg.errors import InputError
from neuroseg.geometry import parse_roi
from neuroseg.storage.files import find_file, open_any
from neuroseg.storage.volumes import Volume, require_voxel_size
from neuroseg.training.descriptors import shape_descriptors
from neuroseg.training.orientations import Orientation
from neuroseg.training.samples import LabelledVolume
from neuroseg.training.settings import VolumeSettings


@dataclass(frozen=True)
class OpenedVolume:
    """A labelled volume, opened but not read, and the region of it to use."""

    raw: Volume
    labels: Volume
    region: Roi
    voxel_size_nm: tuple[float, float, float]


def open_labelled(settings: VolumeSettings, folders: Sequence[str]) -> OpenedVolume:
    """Return the opened volume; raises InputError for missing files and for raw and labels of different shapes."""
    raw = open_any(find_file(settings.raw, folders), voxel_size_nm=settings.voxel_size_nm)
    labels = open_any(find_file(settings.labels, folders), voxel_size_nm=settings.voxel_size_nm)
    if raw.shape != labels.shape:
        raise InputError(f"raw {raw.path} has shape {raw.shape}, labels {labels.path} have {labels.shape}")
    if raw.dtype != np.uint8:
        raise InputError(f"raw {raw.path} holds {raw.dtype} values; import it to uint8 first (neuroseg import)")
    region = parse_roi(settings.region or ":,:,:", raw.shape)
    return OpenedVolume(raw, labels, region, require_voxel_size(raw))


def read_labelled(
    opened: OpenedVolume, *, patch: tuple[int, int, int], turned: Sequence[Orientation], descriptor_sigma_nm: float
) -> LabelledVolume:
    """Return the region in memory; raises InputError when a patch, turned by one of `turned`, does not fit in it."""
    shape = tuple(opened.region.shape)
    for orientation in turned:
        source = orientation.source_shape(patch)
        if any(size < width for size, width in zip(shape, source, strict=True)):
            raise InputError(
                f"{opened.raw.path}: the region {shape} is smaller than a patch {patch} turned to {source}; take a "
                "smaller patch_voxels, or augmentation.orientations: in_plane"
            )
    labels = opened.labels.read(opened.region).astype(np.uint32)
    descriptors = None
    if descriptor_sigma_nm > 0:
        z, y, x = (descriptor_sigma_nm / edge for edge in opened.voxel_size_nm)
        descriptors = shape_descriptors(labels, (z, y, x)).astype(np.float16)
    return LabelledVolume(opened.raw.read(opened.region), labels, opened.voxel_size_nm, descriptors)

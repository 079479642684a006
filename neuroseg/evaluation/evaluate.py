"""Segmentation and truth -> the region that both cover, the border to ignore, and a report of the scores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from funlib.geometry import Roi

from neuroseg.errors import InputError
from neuroseg.evaluation.borders import border_reach
from neuroseg.evaluation.boxes import Border, Overlap
from neuroseg.evaluation.metrics import scores_of
from neuroseg.geometry import Triple, describe, parse_roi, voxels_between
from neuroseg.tables import Table
from neuroseg.volumes.volume import Volume

_VOXEL_SIZE_TOLERANCE = 0.01


def require_labels(volume: Volume) -> Volume:
    """Return the volume. Raises InputError unless it contains integers."""
    if volume.dtype.kind not in "ui":
        raise InputError(f"{volume.path} contains {volume.dtype} values; labels must be integers")
    return volume


def overlap_of(segmentation: Volume, truth: Volume, roi: str | None) -> Overlap:
    """Return the overlap of segmentation and truth within `roi` (voxels), matched by their offsets in nm.

    Raises InputError if the voxel sizes differ, if the shapes differ and the truth has no offset, if an offset is not
    a whole number of voxels, or if nothing overlaps.
    """
    size, other = segmentation.voxel_size_nm, truth.voxel_size_nm
    if size and other and any(abs(a - b) > _VOXEL_SIZE_TOLERANCE * a for a, b in zip(size, other, strict=True)):
        raise InputError(
            f"{truth.path} has voxels of {other} nm, {segmentation.path} has voxels of {size} nm; they must be equal"
        )
    if not truth.placed and truth.shape != segmentation.shape:
        raise InputError(
            f"truth {truth.path} has shape {truth.shape} and no offset, the segmentation shape {segmentation.shape}",
            hint="place the truth: give it an attribute `offset` (nm, z y x) or an OME translation",
        )
    begin = _begin(segmentation, truth) if truth.placed else (0, 0, 0)
    wanted = parse_roi(roi, segmentation.shape) if roi else segmentation.roi
    truth_roi = Roi(begin, truth.shape)
    common = truth_roi.intersect(wanted)
    if common.empty or not all(common.shape):
        raise InputError(
            f"truth {truth.path} covers {describe(truth_roi)} of the segmentation, "
            f"which does not overlap {describe(wanted)}"
        )
    return Overlap(common, truth_roi, tuple(_assumptions(segmentation, truth)))


def _begin(segmentation: Volume, truth: Volume) -> Triple:
    """Return the beginning (z, y, x) of a truth that has an offset, in voxels of the segmentation."""
    size = segmentation.voxel_size_nm or truth.voxel_size_nm
    if size is None:
        if truth.offset_nm == segmentation.offset_nm:
            return (0, 0, 0)
        raise InputError(
            f"truth {truth.path} has an offset of {truth.offset_nm} nm, but neither it nor {segmentation.path} has a "
            "voxel size",
            hint="give one of them the attribute voxel_size (nm, z y x)",
        )
    # With equal voxel sizes, offsets of centres and of corners give the same distance (placement.py).
    return voxels_between(truth.offset_nm, segmentation.offset_nm, size)


def _assumptions(segmentation: Volume, truth: Volume) -> Iterator[str]:
    """Yield one sentence for each placement or voxel size that a file does not state."""
    if not truth.placed:
        yield f"{truth.path} begins where the segmentation begins: it has no offset and the same shape"
    elif not segmentation.placed:
        yield f"{segmentation.path} begins at 0 nm: it has no offset"
    volumes = ((segmentation, truth), (truth, segmentation))
    for volume, other in volumes:
        if volume.voxel_size_nm is None and other.voxel_size_nm is not None:
            size = " x ".join(f"{edge:g}" for edge in other.voxel_size_nm)
            yield f"{volume.path} has voxels of {size} nm, as {other.path} has: it states no voxel size"
    if segmentation.voxel_size_nm is None and truth.voxel_size_nm is None:
        yield "both volumes have the same voxel size: neither file states it"


def border_of(segmentation: Volume, truth: Volume, border_nm: float) -> Border | None:
    """Return the border to ignore, or None if it is 0 nm wide.

    Raises InputError if the border is negative or too wide, or if neither volume has a voxel size.
    """
    if not border_nm >= 0:
        raise InputError(
            f"a border of {border_nm:g} nm is not a length",
            hint="use 0 (every voxel counts) or a positive number of nm",
        )
    if border_nm == 0:
        return None
    size = segmentation.voxel_size_nm or truth.voxel_size_nm
    if size is None:
        raise InputError(
            f"a border of {border_nm:g} nm needs a voxel size; {segmentation.path} and {truth.path} have none",
            hint="give one of them the attribute voxel_size (nm, z y x)",
        )
    border_reach(size, border_nm)
    return Border(border_nm, size)


def report(table: Table, overlap: Overlap, segmentation: Volume) -> dict[str, Any]:
    """Return the scores of a contingency table by name, with the counts of labels and voxels and the coverage."""
    voxels = int(table["count"].sum())
    return {
        **scores_of(table).as_dict(),
        "segments": int(np.count_nonzero(np.unique(table["segment"]))),
        "truth_objects": len(np.unique(table["truth"])),
        "voxels": voxels,
        "counted": voxels / overlap.roi.size,
        "roi": describe(overlap.roi),
        "coverage": overlap.roi.size / segmentation.roi.size,
        "truth_coverage": overlap.roi.size / overlap.truth_roi.size,
    }

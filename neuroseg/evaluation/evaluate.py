"""Which labels of a segmentation and a truth can be compared, and what their contingency says."""

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
    """Return the volume; raises InputError unless it holds integers."""
    if volume.dtype.kind not in "ui":
        raise InputError(f"{volume.path} holds {volume.dtype} values; labels are integers")
    return volume


def overlap_of(segmentation: Volume, truth: Volume, roi: str | None) -> Overlap:
    """Return where segmentation and truth overlap, matched by physical place, within `roi` (voxels).

    Raises InputError when their voxel sizes differ, when their shapes differ and the truth does not say where it
    lies, when offsets cannot be counted in voxels, and when nothing overlaps.
    """
    size, other = segmentation.voxel_size_nm, truth.voxel_size_nm
    if size and other and any(abs(a - b) > _VOXEL_SIZE_TOLERANCE * a for a, b in zip(size, other, strict=True)):
        raise InputError(f"{truth.path} has voxels of {other} nm, {segmentation.path} of {size} nm; they must be equal")
    if not truth.placed and truth.shape != segmentation.shape:
        raise InputError(
            f"truth {truth.path} has shape {truth.shape}, the segmentation {segmentation.shape}, and the truth has no "
            "attribute `offset` (nm) or OME translation that says where it lies"
        )
    begin = _begin(segmentation, truth) if truth.placed else (0, 0, 0)
    wanted = parse_roi(roi, segmentation.shape) if roi else segmentation.roi
    truth_roi = Roi(begin, truth.shape)
    common = truth_roi.intersect(wanted)
    if common.empty or not all(common.shape):
        raise InputError(
            f"truth {truth.path} covers {describe(truth_roi)} of the segmentation, which does not "
            f"overlap {describe(wanted)}"
        )
    return Overlap(common, truth_roi, tuple(_assumptions(segmentation, truth)))


def _begin(segmentation: Volume, truth: Volume) -> Triple:
    """Return where a truth that says where it lies begins, in voxels of the segmentation."""
    size = segmentation.voxel_size_nm or truth.voxel_size_nm
    if size is None:
        if truth.offset_nm == segmentation.offset_nm:
            return (0, 0, 0)
        raise InputError(
            f"truth {truth.path} lies at {truth.offset_nm} nm, but neither it nor {segmentation.path} states a voxel "
            "size; give one of them the attribute voxel_size (nm, z y x)"
        )
    # Voxels of one size have one distance, whether offsets are those of centres or of corners (placement.py).
    return voxels_between(truth.offset_nm, segmentation.offset_nm, size)


def _assumptions(segmentation: Volume, truth: Volume) -> Iterator[str]:
    """Yield what neither file states and a comparison takes for granted."""
    if not truth.placed:
        yield f"{truth.path} begins where the segmentation begins: it states no place and has the same shape"
    elif not segmentation.placed:
        yield f"{segmentation.path} begins at 0 nm: it states no place"
    volumes = ((segmentation, truth), (truth, segmentation))
    for volume, other in volumes:
        if volume.voxel_size_nm is None and other.voxel_size_nm is not None:
            size = " x ".join(f"{edge:g}" for edge in other.voxel_size_nm)
            yield f"{volume.path} has voxels of {size} nm, as {other.path}: it states no voxel size"
    if segmentation.voxel_size_nm is None and truth.voxel_size_nm is None:
        yield "both have voxels of the same size: neither states one"


def border_of(segmentation: Volume, truth: Volume, border_nm: float) -> Border | None:
    """Return the border that does not count, None where it is 0 nm wide.

    Raises InputError when it is negative or too wide, and when neither volume has a voxel size.
    """
    if not border_nm >= 0:
        raise InputError(f"a border of {border_nm:g} nm is not a length; give 0 (every voxel counts) or more")
    if border_nm == 0:
        return None
    size = segmentation.voxel_size_nm or truth.voxel_size_nm
    if size is None:
        raise InputError(
            f"a border of {border_nm:g} nm needs a voxel size, which neither {segmentation.path} nor {truth.path} has; "
            "give one of them the attribute voxel_size (nm, z y x)"
        )
    border_reach(size, border_nm)
    return Border(border_nm, size)


def report(table: Table, overlap: Overlap, segmentation: Volume) -> dict[str, Any]:
    """Return the scores of a contingency by name, with what they cover."""
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

"""A segmentation and a truth on disk -> scores, read slab by slab."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from funlib.geometry import Coordinate, Roi

from neuroseg.errors import InputError
from neuroseg.evaluation.contingency import added, contingency
from neuroseg.evaluation.metrics import Scores, scores_of
from neuroseg.geometry import describe, parse_roi, voxels_between
from neuroseg.storage.volumes import Volume
from neuroseg.tables import Table

_SLAB_VOXELS = 8 * 1024 * 1024
_VOXEL_SIZE_TOLERANCE = 0.01


@dataclass(frozen=True)
class Overlap:
    """The region compared, in voxels of the segmentation, and where the truth's first voxel lies in it."""

    roi: Roi
    truth_origin: Coordinate


def require_labels(volume: Volume) -> Volume:
    """Return the volume; raises InputError unless it holds integers."""
    if volume.dtype.kind not in "ui":
        raise InputError(f"{volume.path} holds {volume.dtype} values; labels are integers")
    return volume


def overlap_of(segmentation: Volume, truth: Volume, roi: str | None) -> Overlap:
    """Return where segmentation and truth overlap, matched by physical offset, within `roi` (voxels).

    Raises InputError when their voxel sizes differ, when their shapes differ and the truth does not say where it
    lies, and when nothing overlaps.
    """
    size, other = segmentation.voxel_size_nm, truth.voxel_size_nm
    if size and other and any(abs(a - b) > _VOXEL_SIZE_TOLERANCE * a for a, b in zip(size, other, strict=True)):
        raise InputError(f"{truth.path} has voxels of {other} nm, {segmentation.path} of {size} nm; they must be equal")
    if not truth.placed and truth.shape != segmentation.shape:
        raise InputError(
            f"truth {truth.path} has shape {truth.shape}, the segmentation {segmentation.shape}, and the truth has no "
            "attribute `offset` (nm) that says where it lies"
        )
    placed = truth.placed and size is not None
    # A truth of the segmentation's shape that does not say where it lies covers it exactly.
    begin = voxels_between(truth.offset_nm, segmentation.offset_nm, size) if placed and size else (0, 0, 0)
    wanted = parse_roi(roi, segmentation.shape) if roi else segmentation.roi
    common = Roi(begin, truth.shape).intersect(wanted)
    if common.empty or not all(common.shape):
        raise InputError(
            f"truth {truth.path} covers {describe(Roi(begin, truth.shape))} of the segmentation, which does not "
            f"overlap {describe(wanted)}"
        )
    return Overlap(common, Coordinate(begin))


def compare(labels: Volume, truth: Volume, overlap: Overlap, ignore: Sequence[int] = (0,)) -> Table:
    """Return the contingency of two volumes over their overlap, read slab by slab."""
    parts = [
        contingency(labels.read(slab), truth.read(slab - overlap.truth_origin), ignore) for slab in _slabs(overlap.roi)
    ]
    return added(parts)


def report(table: Table, overlap: Overlap, segmentation: Volume) -> dict[str, Any]:
    """Return the scores of a contingency by name, with what they cover."""
    scores: Scores = scores_of(table)
    return {
        **scores.as_dict(),
        "segments": len(set(table["segment"].tolist()) - {0}),
        "truth_objects": len(set(table["truth"].tolist())),
        "voxels": int(table["count"].sum()),
        "roi": describe(overlap.roi),
        "coverage": overlap.roi.size / segmentation.roi.size,
    }


def _slabs(roi: Roi) -> Iterator[Roi]:
    """Yield slabs of a region along z, each of bounded size."""
    depth = max(1, _SLAB_VOXELS // max(1, int(roi.shape[1] * roi.shape[2])))
    for z in range(roi.begin[0], roi.end[0], depth):
        thickness = min(depth, roi.end[0] - z)
        yield Roi((z, roi.begin[1], roi.begin[2]), (thickness, roi.shape[1], roi.shape[2]))

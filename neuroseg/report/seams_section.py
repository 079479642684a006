"""The section of the seam audit: labels at block faces against labels at the planes between them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from funlib.geometry import Roi

from neuroseg.evaluation.seams import BAND_DEVIATIONS, NEIGHBOURS, SeamAudit, plane_shares, seam_audit
from neuroseg.fragments.settings import DISTANCE_BASINS
from neuroseg.geometry import Triple, triple
from neuroseg.report.markup import paragraph, percent, section, table
from neuroseg.report.reported import UNREADABLE, ReportedRun
from neuroseg.report.shown_places import crop_around
from neuroseg.volumes.volume import Volume

# Regions up to this size are read completely. Of larger ones, boxes around corners of blocks are read.
_WHOLE_VOXELS = 2**23
_BOXES, _BOX_VOXELS = 32, 64
_METHOD = (
    "A share is the part of the pairs of labelled voxels on the two sides of a plane whose labels differ. The expected "
    f"range at block faces is the mean of the {NEIGHBOURS} planes on each side of the faces, plus or minus "
    f"{BAND_DEVIATIONS:g} standard deviations of the same comparison at inner planes, divided by the square root of "
    "the number of faces."
)

Audited = list[tuple[str, str, SeamAudit]]


def seams_section(run: ReportedRun) -> str:
    """Return the audit of fragments and segmentation along each axis. A sentence if there are no inner block faces."""
    title = "Block faces"
    try:
        boxes = sample_boxes(run)
        audited = list(_audits(run, boxes))
    except UNREADABLE as error:
        return section("seams", title, paragraph(f"Not audited: {str(error).splitlines()[0]}", "note"))
    if not any(audit.faces for _, _, audit in audited):
        text = "No block face lies inside the segmented region, so there is nothing to audit."
        return section("seams", title, paragraph(text))
    rows = [
        (stage, axis, f"{audit.faces:,}", percent(audit.at_faces), percent(audit.inner), _band(audit), _verdict(audit))
        for stage, axis, audit in audited
    ]
    head = ("labels", "axis", "faces", "differ at faces", "differ at inner planes", "expected at faces", "result")
    read = "the whole region" if boxes == [run.region] else f"{len(boxes)} boxes around corners of blocks"
    kind = "warning" if any(audit.has_seam for _, _, audit in audited) else "good"
    parts = (paragraph(_sentence(run, audited), kind), table(head, rows, words=2))
    return section("seams", title, *parts, paragraph(f"{_METHOD} Read: {read}.", "note"))


def sample_boxes(run: ReportedRun) -> list[Roi]:
    """Return the region if it is small, else boxes around the corners of up to 32 done blocks, spread evenly.

    Corners inside the region are preferred, because a box around one contains a block face along each axis.
    """
    region = run.region
    if region.size <= _WHOLE_VOXELS:
        return [region]
    stages = [stage for stage in run.stages if stage.name == "fragments" and len(stage.indices)]
    if not stages:
        return []
    corners = np.stack(np.unravel_index(stages[0].indices, stages[0].counts), axis=1) * np.array(stages[0].block_shape)
    inside = (corners > np.array(region.begin)).sum(axis=1)
    best = corners[inside == inside.max()]
    chosen = best[np.unique(np.linspace(0, len(best) - 1, _BOXES).round().astype(np.int64))]
    shape = triple([min(_BOX_VOXELS, int(size)) for size in region.shape])
    return [crop_around(triple(corner), shape, region) for corner in chosen]


def _audits(run: ReportedRun, boxes: list[Roi]) -> Iterator[tuple[str, str, SeamAudit]]:
    for name, volume in (("fragments", run.fragments), ("segmentation", run.segmentation)):
        if volume is not None:
            for axis, audit in zip("zyx", _axes(volume, boxes, run.plan.blocks), strict=True):
                yield name, axis, audit


def _axes(volume: Volume, boxes: list[Roi], block: Triple) -> list[SeamAudit]:
    """Return the audit of each axis. Each box is read once."""
    shares = []
    for box in boxes:
        labels = volume.read(box)
        shares.append([plane_shares(labels, int(box.begin[axis]), block[axis], axis) for axis in range(3)])
    return [seam_audit([each[axis] for each in shares]) for axis in range(3)]


def _band(audit: SeamAudit) -> str:
    return f"{percent(audit.low)} to {percent(audit.high)}" if audit.has_band else "–"


def _verdict(audit: SeamAudit) -> str:
    if not audit.has_band:
        return "no faces" if not audit.faces else "too few planes"
    return "seam" if audit.has_seam else "fewer" if audit.is_below else "agrees"


def _sentence(run: ReportedRun, audited: Audited) -> str:
    """Return the result of the audit in one sentence, and for a seam its cause if the method explains it."""
    compared = [each for each in audited if each[2].has_band]
    if not compared:
        return "There are too few planes between the block faces to compare them."
    seams = [f"{stage} along {axis}" for stage, axis, audit in compared if audit.has_seam]
    if seams:
        cut = run.plan.fragments != DISTANCE_BASINS
        cause = f" The fragment method {run.plan.fragments} cuts fragments at block faces." if cut else ""
        return f"More labels end at block faces than at other planes: {', '.join(seams)}.{cause}"
    if any(audit.is_below for _, _, audit in compared):
        return "No seam: at block faces, no more labels end than expected. Along one axis or more, fewer end there."
    return (
        "Block faces and inner planes agree, as they must if the result does not depend on the blocks: labels end at "
        "block faces as often as anywhere else."
    )

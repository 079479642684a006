"""The section of the segments: how many of which size, and pictures of the largest ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuroseg.checks.advice import advice_on
from neuroseg.report.largest import LargeSegment, largest_segments, shape_of, stored_sizes
from neuroseg.report.markup import counted, figure, group, heading, length_text, paragraph, percent, picture, section
from neuroseg.report.reported import UNREADABLE, ReportedRun
from neuroseg.views.colours import colours_of
from neuroseg.views.figure import AXES
from neuroseg.views.histogram import bars, size_bins
from neuroseg.views.projection import depth_picture
from neuroseg.views.webp import drawing, pixels_of

_SHOWN = 8
_TITLE = "Segments"


def segments_section(run: ReportedRun) -> str:
    """Return the distribution of sizes and the largest segments. A sentence if their table is missing."""
    if not run.is_published:
        text = "The segmentation of this plan is not finished."
        return section("segments", _TITLE, paragraph(text, "note"))
    try:
        sizes = stored_sizes(run.workspace)
        large = [] if sizes is None else largest_segments(run.workspace, sizes, _SHOWN)
    except UNREADABLE as error:
        return section("segments", _TITLE, paragraph(f"Not shown: {str(error).splitlines()[0]}", "note"))
    if sizes is None:
        return section(
            "segments", _TITLE, paragraph("The table of fragments was deleted (--keep segmentation).", "note")
        )
    cards = [_card(run, each, int(sizes.sum())) for each in large]
    parts = [heading("Largest segments"), group("cards small", cards)] if cards else []
    return section("segments", _TITLE, *_distribution(sizes), *_advice(run, sizes), *parts)


def _distribution(sizes: NDArray[np.int64]) -> list[str]:
    """Return the counts in words, and a drawing of the number and of the voxels of segments by size."""
    segments, total = sizes[1:][sizes[1:] > 0], int(sizes.sum())
    if not len(segments):
        return [paragraph("There are no segments.", "warning")]
    bins, share = size_bins(segments), int(segments.max()) / total
    ordered = np.sort(segments)[::-1]
    half = int(np.searchsorted(np.cumsum(ordered), ordered.sum() / 2)) + 1
    words = (
        f"{counted(len(segments), 'segment')}, median {np.median(segments):,.0f} voxels. The largest has "
        f"{percent(share)} of the voxels of all fragments. {_half_text(half)} half of the segmented voxels."
    )
    if sizes[0]:
        words += f" Fragments without a segment: {percent(int(sizes[0]) / total)} of the voxels."
    edges = bins.edges.tolist()
    shares = (100 * bins.voxels / bins.voxels.sum()).tolist()
    drawn = (
        ("Number of segments by size", bins.segments.tolist(), "segments"),
        ("Share of the voxels by size of segment", shares, "%"),
    )
    drawings = [figure(bars(heights, edges, title, unit), f"{title}.") for title, heights, unit in drawn]
    return [paragraph(words), group("panels two", drawings)]


def _half_text(count: int) -> str:
    return "It contains more than" if count == 1 else f"The {count:,} largest contain"


def _advice(run: ReportedRun, sizes: NDArray[np.int64]) -> list[str]:
    """Return the likely cause if the sizes look wrong."""
    try:
        advice = advice_on(run.workspace, sizes)
    except UNREADABLE:
        return []
    return [paragraph(f"Note: {advice}", "warning")] if advice else []


def _card(run: ReportedRun, large: LargeSegment, total: int) -> str:
    """Return the picture of a segment with its size."""
    share = percent(large.voxels / total)
    extent = " x ".join(length_text(n * s) for n, s in zip(large.box.shape, run.plan.voxel_size_nm, strict=True))
    words = (
        f"Segment {large.segment}: {large.voxels:,} voxels ({share}), {counted(large.fragments, 'fragment')}, {extent}"
    )
    try:
        shape = shape_of(run, large)
    except UNREADABLE:
        shape = None
    if shape is None:
        return figure("", words)
    inside, edge_nm = shape
    colour = colours_of(np.array([large.segment], np.uint64))[0, :3].tolist()
    image, axis = depth_picture(inside, colour, edge_nm)
    down, right = (n for n in range(3) if n != axis)
    width, height = (inside.shape[n] * edge_nm[n] for n in (right, down))
    alternative = f"shape of segment {large.segment}, seen along {AXES[axis]}"
    content = picture(drawing(pixels_of(image)), alternative, (width, height))
    return figure(content, f"{words} (z, y, x). Seen along {AXES[axis]}.")

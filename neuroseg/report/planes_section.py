"""The sections that show the volume: an overview of the segmentation, and three planes per stage at several places."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.geometry import Triple, describe, triple
from neuroseg.report.markup import figure, group, length_text, paragraph, picture, section
from neuroseg.report.planes import Columns, PlacePictures
from neuroseg.report.reported import ReportedRun
from neuroseg.report.shown_places import crop_around, crop_shape, filled_cells, spread_places
from neuroseg.views.colours import colours_of
from neuroseg.views.figure import AXES, PLANES, round_length
from neuroseg.views.webp import drawing, photo, pixels_of


def planes_section(run: ReportedRun) -> str:
    """Return the overview and the figures of up to three places. Without anything to show, one sentence."""
    coarse = _coarse(run)
    crops = _crops(run, coarse)
    columns = Columns(run)
    shown = [columns.pictures(crop) for crop in crops]
    shown = [place for place in shown if place.columns]
    parts = [_place_figure(run, number, place) for number, place in enumerate(shown, 1)]
    parts += [paragraph(text, "note") for text in columns.missing.values()]
    overview = _overview(run, coarse, crops) if coarse is not None and run.region != crops[0] else ""
    if not parts:
        parts = [paragraph("No block is done yet, so there is nothing to show.")]
    return section("planes", "The volume, stage by stage", overview, *parts)


def _coarse(run: ReportedRun) -> tuple[NDArray[np.integer], Roi, Triple] | None:
    """Return the region in the coarsest level of the segmentation: labels, its place there, and the level's scale."""
    scales = run.scales
    volume = run.level(len(scales) - 1)
    if volume is None:
        return None
    scale, region = scales[-1], run.shown_region
    begin = [int(b) // s for b, s in zip(region.begin, scale, strict=True)]
    end = [-(-int(e) // s) for e, s in zip(region.end, scale, strict=True)]
    place = Roi(begin, [e - b for b, e in zip(begin, end, strict=True)])
    return volume.read(place), place, scale


def _crops(run: ReportedRun, coarse: tuple[NDArray[np.integer], Roi, Triple] | None) -> list[Roi]:
    """Return the crops to show, where there are segments, or where blocks of the last stage are done."""
    region = run.shown_region
    shape = crop_shape(region, run.plan.voxel_size_nm)
    middle = np.array(region.begin) + np.array(region.shape) / 2
    if coarse is not None:
        labels, place, scale = coarse
        cell = triple([max(1, size // s) for size, s in zip(shape, scale, strict=True)])
        centres, shares = filled_cells(labels != 0, cell)
        centres = (centres + np.array(place.begin)) * np.array(scale)
    else:
        centres, shares = _done_centres(run)
    chosen = spread_places(centres, shares, middle)
    centres = chosen if len(chosen) else middle[None]
    crops = [crop_around(triple(centre.astype(np.int64)), shape, region) for centre in centres]
    return [crop for number, crop in enumerate(crops) if crop not in crops[:number]]


def _done_centres(run: ReportedRun) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the centres `(n, 3)` of the done blocks of the last stage in space that has any, and a share of 1 each."""
    done = [stage for stage in run.stages if stage.has_place and len(stage.indices)]
    if not done:
        return np.empty((0, 3)), np.empty(0)
    cells = np.stack(np.unravel_index(done[-1].indices, done[-1].counts), axis=1)
    return (cells + 0.5) * np.array(done[-1].block_shape), np.ones(len(cells))


def _overview(run: ReportedRun, coarse: tuple[NDArray[np.integer], Roi, Triple], crops: Sequence[Roi]) -> str:
    """Return a figure of the central planes of the whole region at low resolution, with the places marked."""
    labels, place, scale = coarse
    edge = [size * s for size, s in zip(run.plan.voxel_size_nm, scale, strict=True)]
    begin = np.array(place.begin) * np.array(scale)
    panels = []
    for name, axis, down, right in PLANES:
        plane = labels.take(labels.shape[axis] // 2, axis)
        extent = (plane.shape[1] * edge[right], plane.shape[0] * edge[down])
        content = drawing(pixels_of(colours_of(plane)))
        cut = int(begin[axis] + labels.shape[axis] // 2 * scale[axis])
        marks = [
            _mark(number, [(c - b) / (n * s) for c, b, n, s in
                           zip(crop.begin + crop.shape / 2, begin, labels.shape, scale, strict=True)], down, right)
            for number, crop in enumerate(crops, 1)
        ]  # fmt: skip
        image = picture(content, f"segments in the {name} plane at {AXES[axis]} = {cut}, low resolution", extent, "map")
        panels.append(figure(group("over", [image, *marks]), f"{name}, {AXES[axis]} = {cut}"))
    caption = f"The whole region {describe(run.shown_region)}: segments at low resolution, with the places shown below."
    return figure(group("panels three", panels), caption)


def _mark(number: int, centre: Sequence[float], down: int, right: int) -> str:
    left, top = (100 * min(max(centre[axis], 0.02), 0.98) for axis in (right, down))
    return f'<span class="mark" style="left:{left:.1f}%;top:{top:.1f}%">{number}</span>'


def _place_figure(run: ReportedRun, number: int, place: PlacePictures) -> str:
    """Return the figure of one place: a row for each plane, a column for each stage."""
    size, crop = run.plan.voxel_size_nm, place.crop
    centre = [int(b) + int(n) // 2 for b, n in zip(crop.begin, crop.shape, strict=True)]
    rows = []
    for row, (name, axis, down, right) in enumerate(PLANES):
        extent = (crop.shape[right] * size[right], crop.shape[down] * size[down])
        panels: list[str] = []
        for column, images in place.columns.items():
            alternative = f"{column} in the {name} plane at {AXES[axis]} = {centre[axis]}"
            image = picture(photo(images[row]), alternative, extent)
            bar = _scale_bar(extent[0]) if not panels else ""
            panels.append(figure(group("over", [image, bar]), f"{column}, {name}"))
        rows.append(group("panels", panels, f"--columns:{len(panels)}"))
    voxels = ", ".join(f"{axis} {c}" for axis, c in zip(AXES, centre, strict=True))
    caption = f"Place {number}: the planes through voxel {voxels}. Region {describe(crop)}."
    return figure("\n".join(rows), caption, "place")


def _scale_bar(width_nm: float) -> str:
    length = round_length(width_nm / 3)
    return f'<span class="scale" style="width:{100 * length / width_nm:.1f}%">{length_text(length)}</span>'

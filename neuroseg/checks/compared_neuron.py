"""One neuron in two segmentations, or in a segmentation and the truth -> pictures side by side, with arrows at errors.

All arrays are read in one region around the neuron, at one level, on the grid of the first segmentation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.checks.label_levels import StoredLabels, box_of, labels_at, segments_of
from neuroseg.checks.rendering import Look, chosen_rows, grid_nm, suitable_level
from neuroseg.errors import InputError
from neuroseg.evaluation.contingency import contingency
from neuroseg.evaluation.evaluate import overlap_of
from neuroseg.evaluation.neuron_errors import NeuronError, neuron_errors, pieces_of
from neuroseg.geometry import Triple, triple, whole
from neuroseg.storage.publish import require_publishable
from neuroseg.views.camera import Frame, frame_around, parse_view, view_axes
from neuroseg.views.colours import colours_of, named_as_truth
from neuroseg.views.mesh import mesh_of
from neuroseg.views.neuron_picture import Arrow, Panel, neuron_picture
from neuroseg.views.rasteriser import Surface, rendered

# Several arrays of 8 bytes a voxel are held at the same time.
_MOST_VOXELS = 2**24
# The region reaches beyond the neuron by this part of its longest edge, and at least by so many of the smallest voxel
# edges, to show what is merged with it.
_MARGIN, _LEAST_MARGIN = 0.1, 16

Labels = NDArray[np.uint64]


@dataclass(frozen=True)
class Shown:
    """One panel: its title, the surfaces, and the errors with their places in nm."""

    title: str
    surfaces: tuple[Surface, ...]
    errors: tuple[NeuronError, ...]


@dataclass(frozen=True)
class Compared:
    """A picture that was written. `neuron`: an id of the reference. `errors`: by panel, places in voxels (z, y, x)."""

    neuron: int
    level: int
    factors: Triple
    errors: dict[str, tuple[NeuronError, ...]]
    assumptions: tuple[str, ...]


@dataclass(frozen=True)
class _Placed:
    """Labels and the region that they cover, in voxels of the first segmentation."""

    labels: StoredLabels
    roi: Roi

    def read(self, region: Roi, factors: Triple) -> Labels:
        array: Labels = self.labels.read(region - self.roi.begin, factors)
        return array


def render_compared(
    address: str, output: Path, ids: str, look: Look, *, other: str | None = None, truth: str | None = None
) -> Compared:
    """Write a picture of one neuron in the segmentation at `address`, in `other` and in `truth`, those that are given.

    With `truth` the neuron is the true object that the segment `ids` overlaps most, and both segmentations have errors.
    Else the neuron is the segment itself, and the arrows in `other` mark where it differs. Raises InputError for an
    invalid request, and if the volumes do not overlap.
    """
    require_publishable(output, ".png")
    labels = labels_at(address)
    table = segments_of(labels)
    rows = chosen_rows(table, ids, labels)
    if len(rows) != 1:
        raise InputError(f"--ids {ids} names {len(rows)} segments, expected one to compare", hint="give one id")
    first = _Placed(labels, labels.volume.roi)
    others: list[_Placed] = []
    assumptions: list[str] = []
    for each in (other, truth):
        if each is not None:
            opened = labels_at(each, labels.voxel_size_nm)
            overlap = overlap_of(labels.volume, opened.volume, None)
            others.append(_Placed(opened, overlap.truth_roi))
            assumptions += overlap.assumptions
    segment, box = int(table["segment"][rows[0]]), box_of(table, rows[0])
    reference, neuron = first, segment
    if truth is not None:
        reference = others[-1]
        neuron, box = _true_object(first, reference, segment, box, look)
    bounds = [each.roi for each in others]
    level = suitable_level(labels, [_around(box, bounds, (1, 1, 1), labels)], look, _MOST_VOXELS)
    factors = labels.factors[level]
    region = _around(box, bounds, factors, labels)
    wanted = reference.read(region, factors)
    names = [Path(each.labels.address.rstrip("/")).name for each in (first, *others)]
    titles = [*names[:-1], "truth"] if truth else names
    panels = []
    for title, placed in zip(titles, (first, *others), strict=True):
        array = wanted if placed is reference else placed.read(region, factors)
        panels.append(_shown(title, array, wanted, neuron, grid_nm(labels, region, factors)))
    _draw(output, panels, look, grid_nm(labels, region, factors))
    errors = {panel.title: _in_voxels(panel.errors, region, factors) for panel in panels}
    return Compared(neuron, level, factors, errors, tuple(dict.fromkeys(assumptions)))


def _true_object(first: _Placed, truth: _Placed, segment: int, box: Roi, look: Look) -> tuple[int, Roi]:
    """Return the true object that a segment overlaps most, and its box in voxels of the first segmentation."""
    level = suitable_level(first.labels, [box], Look(size_pixels=look.size_pixels), _MOST_VOXELS)
    factors = first.labels.factors[level]
    region = _around(box, [truth.roi], factors, first.labels)
    own = np.where(first.read(region, factors) == np.uint64(segment), np.uint64(1), np.uint64(0))
    counted = contingency(own, truth.read(region, factors))
    inside = counted["segment"] == 1
    if not inside.any():
        raise InputError(f"segment {segment} overlaps no true object", hint="choose another segment with --ids")
    neuron = int(counted["truth"][inside][counted["count"][inside].argmax()])
    table = segments_of(truth.labels)
    row = int(np.searchsorted(table["segment"], np.uint64(neuron)))
    return neuron, box_of(table, row) + truth.roi.begin


def _around(box: Roi, bounds: Sequence[Roi], factors: Triple, labels: StoredLabels) -> Roi:
    """Return the region around a box that all labels cover. It begins at a multiple of `factors`."""
    size = labels.voxel_size_nm
    longest_nm = max(length * edge for length, edge in zip(box.shape, size, strict=True))
    margin_nm = max(_MARGIN * longest_nm, _LEAST_MARGIN * min(size))
    margin = [math.ceil(margin_nm / edge) for edge in size]
    region = box.grow(margin, margin).intersect(whole(labels.volume.shape))
    for bound in bounds:
        region = region.intersect(bound)
    begin = [-(-b // f) * f for b, f in zip(region.begin, factors, strict=True)]
    shape = [e - b for e, b in zip(region.end, begin, strict=True)]
    if min(shape) < 1:
        raise InputError("the neuron lies outside the region that all volumes cover", hint="choose another segment")
    return Roi(begin, shape)


def _shown(
    title: str, segments: Labels, reference: Labels, neuron: int, grid: tuple[list[float], list[float]]
) -> Shown:
    """Return the panel of one segmentation: the segments that cover a part of the neuron, as far as the region goes."""
    named = named_as_truth(segments, reference)
    surfaces = []
    for piece in pieces_of(segments, reference, neuron):
        name = named.ravel()[np.flatnonzero(segments.ravel() == np.uint64(piece))[0]]
        red, green, blue, _ = colours_of(np.array([name]))[0].tolist()
        surfaces.append(Surface(*mesh_of(segments, piece, *grid), (red, green, blue)))
    return Shown(title, tuple(surfaces), neuron_errors(segments, reference, neuron))


def _draw(output: Path, panels: Sequence[Shown], look: Look, grid: tuple[list[float], list[float]]) -> None:
    points = np.concatenate([surface.vertices for panel in panels for surface in panel.surfaces])
    frame = frame_around(points, view_axes(*parse_view(look.view)), look.size_pixels)
    pictures = [
        Panel(rendered(panel.surfaces, frame), panel.title, _arrows(panel.errors, frame, grid)) for panel in panels
    ]
    neuron_picture(output, pictures, frame.nm_per_pixel)


def _arrows(errors: Sequence[NeuronError], frame: Frame, grid: tuple[list[float], list[float]]) -> tuple[Arrow, ...]:
    if not errors:
        return ()
    size, corner = np.array(grid[0]), np.array(grid[1])
    places = frame.project((np.array([each.place for each in errors]) + 0.5) * size + corner)
    return tuple(Arrow(float(p[0]), float(p[1]), each.error) for p, each in zip(places, errors, strict=True))


def _in_voxels(errors: Sequence[NeuronError], region: Roi, factors: Triple) -> tuple[NeuronError, ...]:
    """Return the errors with places and counts in voxels of full resolution."""
    scale = int(np.prod(factors))
    return tuple(
        NeuronError(
            each.error, each.segment, each.other, each.voxels * scale,
            triple([b + p * f for b, p, f in zip(region.begin, each.place, factors, strict=True)]),
        )
        for each in errors
    )  # fmt: skip

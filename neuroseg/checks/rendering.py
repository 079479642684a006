"""Chosen segments of a segmentation -> a picture of their surfaces.

    ids -> bounding boxes -> level of the pyramid -> masks, one at a time -> meshes -> picture

Memory is bounded by the box of one segment at this level, and by the triangles.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.checks.label_levels import StoredLabels, aligned, box_of, labels_at, segments_of
from neuroseg.errors import InputError
from neuroseg.geometry import Triple
from neuroseg.storage.publish import require_publishable
from neuroseg.tables import Table
from neuroseg.views.camera import frame_around, parse_view, view_axes
from neuroseg.views.colours import colours_of
from neuroseg.views.mesh import mesh_of
from neuroseg.views.neuron_picture import Panel, neuron_picture
from neuroseg.views.rasteriser import Surface, rendered

# The box of each segment has at most so many voxels at the level that is read.
_MOST_VOXELS = 2**26
_SMALLEST_PIXELS, _LARGEST_PIXELS = 100, 8000


@dataclass(frozen=True)
class Look:
    """How neurons are drawn. `view`: front, top, side, or azimuth and elevation. `level`: None for a suitable one."""

    view: str = "front"
    size_pixels: int = 1200
    level: int | None = None

    def __post_init__(self) -> None:
        """Raise InputError for an invalid view or size."""
        parse_view(self.view)
        if not _SMALLEST_PIXELS <= self.size_pixels <= _LARGEST_PIXELS:
            raise InputError(
                f"--size {self.size_pixels} is not between {_SMALLEST_PIXELS} and {_LARGEST_PIXELS} pixels"
            )


@dataclass(frozen=True)
class Rendered:
    """A picture that was written: the segments, the level that was read, its downsampling, and the triangles."""

    segments: tuple[int, ...]
    absent: tuple[int, ...]
    level: int
    factors: Triple
    triangles: int


def render(address: str, output: Path, ids: str, look: Look) -> Rendered:
    """Write a picture of segments, and return what it shows.

    `ids`: ids separated by commas, or `largest:N`. Segments without a voxel at the chosen level are `absent`. Raises
    InputError for an invalid request or an unknown id, before the voxels are read.
    """
    require_publishable(output, ".png")
    labels = labels_at(address)
    table = segments_of(labels)
    rows = chosen_rows(table, ids, labels)
    level = suitable_level(labels, [box_of(table, row) for row in rows], look, _MOST_VOXELS)
    surfaces: dict[int, Surface] = {}
    for row in rows:
        segment = int(table["segment"][row])
        surfaces[segment] = surface_of(labels, segment, box_of(table, row), labels.factors[level])
    seen = {segment: surface for segment, surface in surfaces.items() if len(surface.faces)}
    if not seen:
        raise InputError(f"the segments {ids} have no voxels at level {level}", hint="use a finer level: --level 0")
    points = np.concatenate([surface.vertices for surface in seen.values()])
    frame = frame_around(points, view_axes(*parse_view(look.view)), look.size_pixels)
    neuron_picture(output, [Panel(rendered(list(seen.values()), frame))], frame.nm_per_pixel)
    triangles = sum(len(surface.faces) for surface in seen.values())
    absent = tuple(segment for segment in surfaces if segment not in seen)
    return Rendered(tuple(seen), absent, level, labels.factors[level], triangles)


def chosen_rows(table: Table, ids: str, labels: StoredLabels) -> list[int]:
    """Return the rows of `segments_of` for ids such as `5,17` or `largest:5`. Raises InputError for unknown ids."""
    known = table["segment"]
    if not len(known):
        raise InputError(f"{labels.address} has no segments", hint="check the threshold, the region and the mask")
    if match := re.fullmatch(r"largest:([1-9]\d{0,5})", ids.strip()):
        order = np.lexsort((known, -table["voxels"].astype(np.int64)))
        return [int(row) for row in order[: int(match[1])]]
    if not re.fullmatch(r"\s*\d{1,20}\s*(,\s*\d{1,20}\s*)*", ids):
        raise InputError(f"--ids {ids!r} is not a list of ids", hint="use for example --ids 5,17 or --ids largest:5")
    return [_row_of(int(part), known, labels) for part in dict.fromkeys(ids.split(","))]


def _row_of(segment: int, known: NDArray[np.uint64], labels: StoredLabels) -> int:
    row = int(np.searchsorted(known, np.uint64(min(segment, 2**64 - 1))))
    if row < len(known) and int(known[row]) == segment:
        return row
    near = [int(known[each]) for each in (row - 1, row) if 0 <= each < len(known)]
    nearest = min(near, key=lambda each: abs(each - segment))
    raise InputError(
        f"segment {segment} is not in {labels.address}, which has {len(known)} segments with ids from {known[0]} to "
        f"{known[-1]}",
        hint=f"the nearest id is {nearest}; --ids largest:5 draws the largest segments",
    )


def suitable_level(labels: StoredLabels, boxes: Sequence[Roi], look: Look, most_voxels: int) -> int:
    """Return the level to draw: the coarsest one whose voxels are no wider than a pixel, or a coarser one that fits.

    A level fits if each box has at most `most_voxels` voxels. If no level fits, the coarsest is returned. Raises
    InputError if the level that the user chose does not exist or does not fit.
    """
    voxels = [max(math.prod(-(-n // f) for n, f in zip(box.shape, step, strict=True)) for box in boxes)
              for step in labels.factors]  # fmt: skip
    last = len(labels.factors) - 1
    if look.level is not None:
        if not 0 <= look.level <= last:
            raise InputError(f"{labels.address} has {last + 1} levels (0 to {last}), found --level {look.level}")
        if voxels[look.level] > most_voxels:
            fitting = next((level for level in range(last + 1) if voxels[level] <= most_voxels), last)
            raise InputError(
                f"a segment has {voxels[look.level] / 1e6:.0f} Mvoxel at level {look.level}, expected at most "
                f"{most_voxels / 1e6:.0f}",
                hint=f"omit --level, or use --level {fitting}",
            )
        return look.level
    begin = np.min([box.begin for box in boxes], axis=0)
    extent = (np.max([box.end for box in boxes], axis=0) - begin) * np.array(labels.voxel_size_nm)
    pixel_nm = float(extent.max()) / look.size_pixels
    edges = [min(f * s for f, s in zip(step, labels.voxel_size_nm, strict=True)) for step in labels.factors]
    sharp = max((level for level in range(last + 1) if edges[level] <= pixel_nm), default=0)
    return next((level for level in range(sharp, last + 1) if voxels[level] <= most_voxels), last)


def surface_of(labels: StoredLabels, segment: int, box: Roi, factors: Triple) -> Surface:
    """Return the surface of a segment at a level, in nm from voxel (0, 0, 0), in the colour of its id."""
    region = aligned(box, factors, labels.volume.shape)
    inside = labels.read(region, factors, lambda values: values == np.uint64(segment))
    size, corner = grid_nm(labels, region, factors)
    red, green, blue, _ = colours_of(np.array([segment], np.uint64))[0].tolist()
    return Surface(*mesh_of(inside, 1, size, corner), (red, green, blue))


def grid_nm(labels: StoredLabels, region: Roi, factors: Triple) -> tuple[list[float], list[float]]:
    """Return the voxel size of a level and the corner of a region, both in nm."""
    size = [edge * factor for edge, factor in zip(labels.voxel_size_nm, factors, strict=True)]
    return size, [b * edge for b, edge in zip(region.begin, labels.voxel_size_nm, strict=True)]

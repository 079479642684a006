"""The voxels of a mask that belong to the voxels of a volume, and to the cells of a grid over the volume."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.blocks import Numbers
from neuroseg.geometry import Nanometres
from neuroseg.volumes.volume import Volume

# A part of the mask of this size is read at a time. It takes 16 MiB as bytes.
_MOST_VOXELS = 2**24
_ROUNDING_VOXELS = 1e-6  # far more than the rounding error of a position, far less than a voxel


@dataclass(frozen=True)
class Scaled:
    """The position of a volume's voxels in a mask, along z, y, x.

    `ratio`: size of a volume's voxel in mask voxels. `shift`: begin of the mask past the volume's, in mask voxels.
    """

    ratio: Nanometres
    shift: Nanometres


def voxels_inside(mask: Volume, roi: Roi, scaled: Scaled) -> NDArray[np.bool_]:
    """Return which voxels `(z, y, x)` of a region of the volume are inside."""
    places = [_places(roi.begin[axis], roi.end[axis], axis, scaled) for axis in range(3)]
    within = [(at >= 0) & (at < size) for at, size in zip(places, mask.shape, strict=True)]
    out = np.zeros(tuple(roi.shape), bool)
    if all(known.any() for known in within):
        known = [at[inside] for at, inside in zip(places, within, strict=True)]
        begin = [int(at[0]) for at in known]
        values = mask.read(Roi(begin, [int(at[-1]) + 1 - b for at, b in zip(known, begin, strict=True)]))
        out[np.ix_(*within)] = values[np.ix_(*(at - b for at, b in zip(known, begin, strict=True)))] != 0
    return out


def _places(begin: int, end: int, axis: int, scaled: Scaled) -> Numbers:
    """Return the mask voxel at the centre of each voxel from `begin` to `end` along an axis, ascending."""
    at = np.arange(begin, end)
    centres = (at + 0.5) * scaled.ratio[axis] - scaled.shift[axis]
    # A centre on the face of two mask voxels belongs to the later one, also if decimal lengths are rounded.
    found: Numbers = np.floor(centres + _ROUNDING_VOXELS).astype(np.int64)
    return found


def cells_inside(mask: Volume, faces: Sequence[Numbers], scaled: Scaled) -> NDArray[np.bool_]:
    """Return which cells of a grid have a voxel inside. `faces`: begin and end of adjacent cells along each axis."""
    out = np.zeros([len(each) for each in faces], bool)
    axes = [_Axis.of(each, size, axis, scaled) for axis, (each, size) in enumerate(zip(faces, mask.shape, strict=True))]
    if any(len(each.cells) == 0 for each in axes):
        return out
    for part in itertools.product(*(each.parts(width) for each, width in zip(axes, _part_shape(axes), strict=True))):
        begin = [int(each.places[0]) for each in part]
        values = mask.read(Roi(begin, [int(each.places[-1]) + 1 - b for each, b in zip(part, begin, strict=True)])) != 0
        for axis, (each, first) in enumerate(zip(part, begin, strict=True)):
            values = np.logical_or.reduceat(np.take(values, each.places - first, axis), each.starts, axis)
        out[np.ix_(*(each.cells for each in part))] = values
    return out


@dataclass(frozen=True)
class _Axis:
    """The cells along an axis that have voxels within the mask's extent, ascending.

    `places` are the mask voxels at the centres of the voxels of the first cell, then of the second, without repeats
    within a cell. `starts`: where each cell's begin.
    """

    cells: Numbers
    places: Numbers
    starts: Numbers

    @classmethod
    def of(cls, faces: Numbers, size: int, axis: int, scaled: Scaled) -> _Axis:
        """Return the cells of a grid along an axis of a mask of `size` voxels."""
        at = _places(int(faces[0, 0]), int(faces[-1, 1]), axis, scaled)
        first = faces[:, 0] - faces[0, 0]
        is_new = np.ones(len(at), bool)
        is_new[1:] = at[1:] != at[:-1]
        is_new[first] = True
        is_new &= (at >= 0) & (at < size)
        counts = np.add.reduceat(is_new, first, dtype=np.int64)
        cells = np.flatnonzero(counts)
        return cls(cells, at[is_new], np.cumsum(counts[cells]) - counts[cells])

    def parts(self, width: int) -> list[_Axis]:
        """Return the cells in parts of at most `width` cells."""
        ends = np.append(self.starts, len(self.places))
        return [
            _Axis(
                self.cells[n : n + width],
                self.places[ends[n] : ends[min(n + width, len(self.cells))]],
                self.starts[n : n + width] - ends[n],
            )
            for n in range(0, len(self.cells), width)
        ]


def _part_shape(axes: Sequence[_Axis]) -> list[int]:
    """Return how many cells along each axis are read together: as many as `_MOST_VOXELS` allows, but at least one."""
    shape = [len(each.cells) for each in axes]
    spans = [(each.places[-1] + 1 - each.places[0]) / len(each.cells) for each in axes]
    for axis in range(3):  # z first: whole sections are read as long as that is possible
        others = np.prod([count * span for count, span in zip(shape, spans, strict=True)]) / (shape[axis] * spans[axis])
        shape[axis] = int(np.clip(_MOST_VOXELS / (others * spans[axis]), 1, shape[axis]))
    return shape

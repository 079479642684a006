"""Where volumes lie against each other: the one module that knows what the offsets of both conventions mean.

OME-NGFF states the centre of a level's first voxel, plain arrays (funlib, CREMI) the corner of theirs:

    corner:  o |  v0  |  v1  |        centre:  |  v0  |  v1  |
               o                                  t = o + s/2

Two volumes of one convention are compared in it. Where the conventions differ, that of the larger voxels counts and
the other's number is taken over as it is: files with both kinds in use count both from one zero. So level k of a
pyramid, whose translation is that of level 0 plus (s_k - s_0) / 2, covers whole voxels of a plain array that states
the translation of level 0 as its offset. Equal voxels have one distance in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neuroseg.geometry import Nanometres

CENTRE, CORNER = "centre", "corner"
UNKNOWN = "unknown"  # only in files: the place is assumed, as a corner, to be 0


@dataclass(frozen=True)
class Grid:
    """Voxel size and offset (z, y, x) of a volume, and the convention of the offset."""

    voxel_size_nm: Nanometres
    offset_nm: Nanometres
    convention: str = CORNER


def corner_shift_nm(grid: Grid, reference: Grid) -> Nanometres:
    """Return how far the first corner of a grid lies past that of a reference, along z, y, x."""
    z, y, x = (_shift(grid, reference, axis) for axis in range(3))
    return (z, y, x)


def _shift(grid: Grid, reference: Grid, axis: int) -> float:
    size, reference_size = grid.voxel_size_nm[axis], reference.voxel_size_nm[axis]
    apart = grid.offset_nm[axis] - reference.offset_nm[axis]
    larger = grid if size > reference_size else reference
    convention = grid.convention if grid.convention == reference.convention else larger.convention
    return apart - (size - reference_size) / 2 if convention == CENTRE else apart


def level_translation_nm(
    offset_nm: Sequence[float], voxel_size_nm: Sequence[float], level_size_nm: Sequence[float]
) -> list[float]:
    """Return the centre of a coarser level's first voxel, which lies between the finer ones it was made of."""
    return [o + (s - v) / 2 for o, s, v in zip(offset_nm, level_size_nm, voxel_size_nm, strict=True)]

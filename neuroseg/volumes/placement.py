"""Relative positions of volumes. The only module that interprets offsets of both conventions.

OME-NGFF states the centre of a level's first voxel. Plain arrays (funlib, CREMI) state the corner of their first voxel:

    corner:  o |  v0  |  v1  |        centre:  |  v0  |  v1  |
               o                                  t = o + s/2

Two volumes of the same convention are compared in that convention. If the conventions differ, the convention of the
larger voxels counts, and the other offset is used unchanged: files in use that mix both count from the same zero. So
level k of a pyramid covers whole voxels of a plain array with level 0's translation as its offset: the translation of
level k is that of level 0 plus (s_k - s_0) / 2. For voxels of equal size both conventions give the same distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neuroseg.geometry import Nanometres

CENTRE, CORNER = "centre", "corner"
UNKNOWN = "unknown"  # only in files: the offset is not known; 0 is assumed, as the corner


@dataclass(frozen=True)
class Grid:
    """Voxel size and offset (z, y, x) of a volume in nm, and the convention of the offset."""

    voxel_size_nm: Nanometres
    offset_nm: Nanometres
    convention: str = CORNER


def corner_shift_nm(grid: Grid, reference: Grid) -> Nanometres:
    """Return the first corner of a grid relative to the first corner of a reference, in nm along z, y, x."""
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
    """Return the centre of a coarser level's first voxel in nm.

    `offset_nm` is the centre of the finest level's first voxel. The coarser voxel combines several finer ones, so its
    centre lies between theirs.
    """
    return [o + (s - v) / 2 for o, s, v in zip(offset_nm, level_size_nm, voxel_size_nm, strict=True)]

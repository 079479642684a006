"""Truth -> the voxels too close to a boundary to count, where annotators themselves disagree.

The definition is that of the CREMI challenge: a voxel is at a boundary when a face neighbour has another label, and
near it when its centre lies within the given length of the centre of a voxel at a boundary. As there, sections that
are much thicker than their pixels are treated one by one; other volumes in three dimensions, which CREMI has not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuroseg.errors import InputError
from neuroseg.fragments.settings import wants_sections
from neuroseg.geometry import Nanometres, Triple, triple
from neuroseg.kernels import compiled

_WIDEST_REACH_VOXELS = 50
# Two ways to one distance (6, 8 and 0, 10 voxels) differ in the last bit; both are within it.
_ROUNDING = 1e-9


def border_reach(voxel_size_nm: Nanometres, border_nm: float) -> Triple:
    """Return how many voxels of context `near_boundary` needs on each side; raises InputError when it is too wide."""
    widest = _WIDEST_REACH_VOXELS * min(voxel_size_nm)
    if border_nm > widest:
        raise InputError(
            f"a border of {border_nm:g} nm is too wide for voxels of {voxel_size_nm} nm: at most {widest:g}"
        )
    axes = _axes(voxel_size_nm)
    # One voxel more shows whether the farthest of them is at a boundary.
    return triple([_steps(border_nm, voxel_size_nm[axis]) + 1 if axis in axes else 0 for axis in range(3)])


def near_boundary(truth: NDArray[np.integer], voxel_size_nm: Nanometres, border_nm: float) -> NDArray[np.bool_]:
    """Return which voxels of `truth` `(z, y, x)` lie within `border_nm` of a boundary between two labels, 0 being one.

    Per section where a voxel is at least three times as deep as wide, otherwise in three dimensions. The array's faces
    are no boundaries: past them there is nothing. With `border_reach` voxels of context the result is the same for
    every crop. `border_nm` above 0; below a voxel's edge it leaves out the voxels at a boundary themselves.
    """
    at_boundary = np.zeros(truth.shape, bool)
    for axis in _axes(voxel_size_nm):
        along, mark = np.moveaxis(truth, axis, 0), np.moveaxis(at_boundary, axis, 0)
        differs = along[1:] != along[:-1]
        mark[1:] |= differs
        mark[:-1] |= differs
    squared = np.where(at_boundary, 0.0, np.inf)
    for axis in _axes(voxel_size_nm):
        size = truth.shape[axis]
        lines = squared.reshape(int(np.prod(truth.shape[:axis])), size, int(np.prod(truth.shape[axis + 1 :])))
        edge = voxel_size_nm[axis]
        squared = _nearest_along_lines(lines, edge, _steps(border_nm, edge)).reshape(truth.shape)
    return squared <= border_nm**2 * (1 + _ROUNDING)


def _axes(voxel_size_nm: Nanometres) -> tuple[int, ...]:
    return (1, 2) if wants_sections(voxel_size_nm) else (0, 1, 2)


def _steps(border_nm: float, edge_nm: float) -> int:
    return int(border_nm / edge_nm * (1 + _ROUNDING))


@compiled
def _nearest_along_lines(squared, edge, reach):  # type: ignore[no-untyped-def]
    """Minimum along the middle axis of squared distance + (step * edge)^2; the inner loop vectorises."""
    out = squared.copy()
    before, size, after = squared.shape
    for a in range(before):
        for step in range(1, min(reach, size - 1) + 1):
            cost = (step * edge) ** 2
            for i in range(size - step):
                for c in range(after):
                    out[a, i, c] = min(out[a, i, c], squared[a, i + step, c] + cost)
                    out[a, i + step, c] = min(out[a, i + step, c], squared[a, i, c] + cost)
    return out

"""Ground truth -> the voxels near a boundary, which evaluation can ignore because annotators disagree there.

Follows the CREMI challenge. A voxel is at a boundary if a face neighbour has another label. A voxel is near a boundary
if its centre lies within the given distance of the centre of a voxel at a boundary. As in CREMI, sections much thicker
than their pixels are treated one by one. Unlike CREMI, other volumes are treated in three dimensions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuroseg.errors import InputError
from neuroseg.fragments.settings import wants_sections
from neuroseg.geometry import Nanometres, Triple, triple
from neuroseg.kernels import compiled

_WIDEST_REACH_VOXELS = 50
# Equal distances, such as (6, 8) and (0, 10) voxels, can differ in the last bit. Both must be within the border.
_ROUNDING = 1e-9


def border_reach(voxel_size_nm: Nanometres, border_nm: float) -> Triple:
    """Return the voxels of context (z, y, x) that `near_boundary` needs on each side.

    Raises InputError if the border is too wide.
    """
    widest = _WIDEST_REACH_VOXELS * min(voxel_size_nm)
    if border_nm > widest:
        raise InputError(
            f"a border of {border_nm:g} nm is too wide for voxels of {voxel_size_nm} nm (at most {widest:g} nm)",
            hint=f"use a border of {widest:g} nm or less",
        )
    axes = _axes(voxel_size_nm)
    # One more voxel shows whether the farthest voxel is at a boundary.
    return triple([_steps(border_nm, voxel_size_nm[axis]) + 1 if axis in axes else 0 for axis in range(3)])


def near_boundary(truth: NDArray[np.integer], voxel_size_nm: Nanometres, border_nm: float) -> NDArray[np.bool_]:
    """Return a boolean mask `(z, y, x)` of the voxels of `truth` within `border_nm` of a boundary between two labels.

    Label 0 counts as a label. Distances are measured within each section if voxels are at least three times as deep as
    wide, otherwise in three dimensions. The faces of the array are not boundaries. With `border_reach` voxels of
    context, every crop gives the same result. `border_nm` must be above 0. If it is smaller than a voxel, the mask
    contains only the voxels at a boundary.
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
    """Return the minimum of squared distance + (step * edge)^2 along the middle axis. The inner loop vectorises."""
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

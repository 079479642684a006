"""The voxels of one segment -> its shape, seen along the axis in which it is shortest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Brightness of the surface that is farthest from the viewer, relative to the nearest.
_FARTHEST = 0.35
# How much a surface darkens that is inclined to the line of sight.
_INCLINED = 0.5


def depth_picture(
    inside: NDArray[np.bool_], colour: Sequence[float], edge_nm: Sequence[float]
) -> tuple[NDArray[np.float64], int]:
    """Return a picture `(height, width, 4)`, 0 to 1, of the voxels `inside` `(z, y, x)`, and the axis of the view.

    The view is along the axis in which the box is shortest. The nearest surface is drawn: bright where it is near and
    faces the viewer. Elsewhere the picture is transparent. `edge_nm` is the size of a voxel (z, y, x).
    """
    extent = [length * edge for length, edge in zip(inside.shape, edge_nm, strict=True)]
    axis = extent.index(min(extent))
    view = np.moveaxis(inside, axis, 0)
    hit = view.any(axis=0)
    depth = view.argmax(axis=0) * float(edge_nm[axis])
    picture = np.zeros((*hit.shape, 4))
    if not hit.any():
        return picture, axis
    near, far = depth[hit].min(), depth[hit].max()
    light = 1 - (1 - _FARTHEST) * (depth - near) / max(far - near, float(edge_nm[axis]))
    light *= _facing(np.where(hit, depth, far), [edge for n, edge in enumerate(edge_nm) if n != axis])
    picture[..., :3] = np.clip(light, 0, 1)[..., None] * np.asarray(colour)
    picture[..., 3] = hit
    return picture, axis


def _facing(depth: NDArray[np.float64], edge_nm: Sequence[float]) -> NDArray[np.float64]:
    """Return how much each place `(height, width)` of a surface faces the viewer, from 0.5 to 1."""
    steepness = np.zeros(depth.shape)
    for axis, edge in enumerate(edge_nm):
        if depth.shape[axis] > 1:
            steepness += (np.gradient(depth, axis=axis) / edge) ** 2
    facing: NDArray[np.float64] = 1 - _INCLINED + _INCLINED / np.sqrt(1 + steepness)
    return facing

"""Labels -> the surface of a segment as triangles, in nm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroseg.errors import InputError

Vertices = NDArray[np.float32]
Faces = NDArray[np.int32]


def mesh_of(
    labels: NDArray[Any], segment: int, voxel_size_nm: Sequence[float], offset_nm: Sequence[float] = (0.0, 0.0, 0.0)
) -> tuple[Vertices, Faces]:
    """Return the closed surface of a segment: vertices `(n, 3)` float32 in nm (z, y, x), and faces `(m, 3)` int32.

    `labels` is `(z, y, x)`. Voxel k of an axis spans [k, k + 1) voxel sizes from `offset_nm`, the corner of the array.
    The surface lies halfway between the centres of a voxel of the segment and of its neighbour: at the voxels' faces,
    with cut edges. Beyond the array there is no segment, so the surface also closes there. Corners of a face are
    ordered such that (b - a) x (c - a), computed in the stored column order, points outward. If you reverse the columns
    to x, y, z, also reverse each face. A segment without voxels gives no vertices.

    Marching cubes of scikit-image (Lewiner et al. 2003, "Efficient implementation of Marching Cubes' cases with
    topological guarantees").

    Raises:
        InputError: scikit-image is not installed.
    """
    inside = labels == segment
    box = _box_of(inside)
    if box is None:
        return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)
    marching_cubes = _marching_cubes()
    # The border of voxels outside closes the surface.
    corners, triangles, _, _ = marching_cubes(np.pad(inside[box], 1).astype(np.float32), 0.5)
    # The centre of padded voxel p is p - 1 + 0.5 voxels behind the begin of the box.
    begin = np.array([edge.start for edge in box])
    vertices = (corners.astype(np.float64) - 0.5 + begin) * np.asarray(voxel_size_nm, float) + np.asarray(offset_nm)
    return vertices.astype(np.float32), triangles[:, ::-1].astype(np.int32)


def volume_nm3(vertices: NDArray[Any], faces: NDArray[np.integer]) -> float:
    """Return the volume inside a closed surface in nm3; negative if the faces point inward."""
    first, second, third = (vertices[faces[:, corner]].astype(np.float64) for corner in range(3))
    return float(np.einsum("ij,ij->", first, np.cross(second, third)) / 6)


def _box_of(inside: NDArray[np.bool_]) -> tuple[slice, slice, slice] | None:
    """Return the bounding box of the true voxels, or None if there are none."""
    found = []
    for axis in range(3):
        along = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
        if not len(along):
            return None
        found.append(slice(int(along[0]), int(along[-1]) + 1))
    return found[0], found[1], found[2]


def _marching_cubes() -> Any:
    try:
        from skimage.measure import marching_cubes
    except ImportError as error:
        raise InputError("meshes need the package scikit-image", hint="pip install 'neuroseg[viewing]'") from error
    return marching_cubes

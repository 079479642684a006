"""Surfaces in nm -> a picture of them, drawn on the CPU with a depth buffer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroseg.kernels import compiled
from neuroseg.views.camera import Frame, Points
from neuroseg.views.mesh import Faces, Vertices

Picture = NDArray[np.float64]

# Each pixel is the mean of SAMPLES x SAMPLES samples, so edges are smooth.
_SAMPLES = 2
# Normals are averaged with their neighbours so often, to hide the steps of voxels. Positions stay exact.
_SMOOTHINGS = 5
# The light comes from above, from the left and from the viewer: directions down, right, away.
_LIGHT = np.array([-0.5, -0.4, -0.77])
_AMBIENT, _DIFFUSE, _GLOSS, _GLOSS_EXPONENT = 0.38, 0.68, 0.18, 24
# The farthest surface has this much of its colour; the rest is the white of the background.
_FARTHEST = 0.7
# Darken the edge of a surface in front of another one that lies at least this much deeper, as a part of the picture.
_EDGE_DEPTH, _EDGE_BRIGHTNESS = 0.02, 0.72


@dataclass(frozen=True)
class Surface:
    """Triangles in nm (views/mesh.py) and their colour: red, green, blue, 0 to 1."""

    vertices: Vertices
    faces: Faces
    colour: tuple[float, float, float]


def rendered(surfaces: Sequence[Surface], frame: Frame) -> Picture:
    """Return the picture `(height, width, 3)`, 0 to 1, of surfaces in a frame on white. Parts outside are cut off.

    The nearest surface covers the others. Shading follows Lambert, with a highlight after Blinn and Phong.
    """
    fine = replace(
        frame,
        nm_per_pixel=frame.nm_per_pixel / _SAMPLES,
        height=frame.height * _SAMPLES,
        width=frame.width * _SAMPLES,
    )
    depth = np.full((fine.height, fine.width), np.inf, np.float32)
    light = np.zeros((fine.height, fine.width), np.float32)
    gloss = np.zeros_like(light)
    owner = np.full((fine.height, fine.width), -1, np.int32)
    for number, surface in enumerate(surfaces):
        lambert, highlight = _lights(surface, frame.axes)
        _draw(fine.project(surface.vertices), surface.faces, lambert, highlight, number, depth, light, gloss, owner)
    colours = np.array([(1.0, 1.0, 1.0), *(surface.colour for surface in surfaces)])
    picture = np.clip(colours[owner + 1] * light[..., None] + gloss[..., None], 0, 1)
    picture = _faded(picture, depth * fine.nm_per_pixel, frame) * _edges(depth)[..., None]
    picture[owner < 0] = 1
    samples: Picture = picture.reshape(frame.height, _SAMPLES, frame.width, _SAMPLES, 3).mean(axis=(1, 3))
    return samples


def _lights(surface: Surface, axes: Points) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the diffuse light and the highlight of each vertex."""
    normals = vertex_normals(surface.vertices, surface.faces) @ axes.T
    lambert = _AMBIENT + _DIFFUSE * np.clip(normals @ (_LIGHT / np.linalg.norm(_LIGHT)), 0, 1)
    halfway = _LIGHT / np.linalg.norm(_LIGHT) + np.array([0, 0, -1.0])
    highlight = _GLOSS * np.clip(normals @ (halfway / np.linalg.norm(halfway)), 0, 1) ** _GLOSS_EXPONENT
    return lambert.astype(np.float32), highlight.astype(np.float32)


def vertex_normals(vertices: NDArray[Any], faces: NDArray[np.integer], smoothings: int = _SMOOTHINGS) -> Points:
    """Return the outward unit normal `(n, 3)` of each vertex: the mean of its faces' normals, weighted by area.

    `smoothings`: how often each normal is replaced by the mean of its faces' corners.
    """
    normals = np.zeros((len(vertices), 3))
    _add_face_normals(vertices, faces, normals)
    for _ in range(smoothings):
        sums = np.zeros_like(normals)
        _add_corner_means(_unit(normals), faces, sums)
        normals = sums
    return _unit(normals)


def _unit(normals: Points) -> Points:
    lengths = np.sqrt(np.einsum("ij,ij->i", normals, normals))
    unit: Points = normals / np.maximum(lengths, 1e-12)[:, None]
    return unit


@compiled
def _add_face_normals(vertices, faces, normals):  # type: ignore[no-untyped-def]
    """Add the normal of each face, as long as twice its area, to its vertices."""
    for face in range(faces.shape[0]):
        a, b, c = faces[face, 0], faces[face, 1], faces[face, 2]
        for axis in range(3):
            i, j = (axis + 1) % 3, (axis + 2) % 3
            part = (vertices[b, i] - vertices[a, i]) * (vertices[c, j] - vertices[a, j])
            part -= (vertices[b, j] - vertices[a, j]) * (vertices[c, i] - vertices[a, i])
            for corner in (a, b, c):
                normals[corner, axis] += part


@compiled
def _add_corner_means(normals, faces, sums):  # type: ignore[no-untyped-def]
    """Add the sum of the normals at each face's corners to these corners."""
    for face in range(faces.shape[0]):
        a, b, c = faces[face, 0], faces[face, 1], faces[face, 2]
        for axis in range(3):
            total = normals[a, axis] + normals[b, axis] + normals[c, axis]
            for corner in (a, b, c):
                sums[corner, axis] += total


def _faded(picture: Picture, depth_nm: NDArray[np.float32], frame: Frame) -> Picture:
    """Return the picture with far surfaces paler, so that near ones stand out. Pixels without a surface are white."""
    share = np.clip((depth_nm - frame.near_nm) / max(frame.far_nm - frame.near_nm, 1e-6), 0, 1)[..., None]
    share *= 1 - _FARTHEST
    faded: Picture = picture * (1 - share) + share
    return faded


def _edges(depth: NDArray[np.float32]) -> Picture:
    """Return the brightness of each sample: lower where a surface ends in front of a much deeper one."""
    brightness = np.ones(depth.shape)
    least = _EDGE_DEPTH * max(depth.shape)
    deep = np.where(np.isfinite(depth), depth, np.float32(1e30))
    for axis in (0, 1):
        for side in (1, -1):
            step = np.roll(deep, side, axis) - deep
            brightness[(step > least) & (step < 1e29)] = _EDGE_BRIGHTNESS
    return brightness


@compiled
def _draw(points, faces, lambert, highlight, number, depth, light, gloss, owner):  # type: ignore[no-untyped-def]
    """Draw triangles into the buffers. A sample belongs to a triangle that contains its centre (row + 0.5, ...)."""
    height, width = depth.shape
    for face in range(faces.shape[0]):
        a, b, c = faces[face, 0], faces[face, 1], faces[face, 2]
        ay, ax, by, bx, cy, cx = points[a, 0], points[a, 1], points[b, 0], points[b, 1], points[c, 0], points[c, 1]
        area = (by - ay) * (cx - ax) - (bx - ax) * (cy - ay)
        if area == 0:
            continue
        first_row, last_row = max(0, int(np.ceil(min(ay, by, cy) - 0.5))), min(height - 1, int(max(ay, by, cy) - 0.5))
        first, last = max(0, int(np.ceil(min(ax, bx, cx) - 0.5))), min(width - 1, int(max(ax, bx, cx) - 0.5))
        for row in range(first_row, last_row + 1):
            y = row + 0.5
            for column in range(first, last + 1):
                x = column + 0.5
                u = ((by - y) * (cx - x) - (bx - x) * (cy - y)) / area
                v = ((cy - y) * (ax - x) - (cx - x) * (ay - y)) / area
                w = 1 - u - v
                if u < 0 or v < 0 or w < 0:
                    continue
                z = u * points[a, 2] + v * points[b, 2] + w * points[c, 2]
                if z < depth[row, column]:
                    depth[row, column] = z
                    light[row, column] = u * lambert[a] + v * lambert[b] + w * lambert[c]
                    gloss[row, column] = u * highlight[a] + v * highlight[b] + w * highlight[c]
                    owner[row, column] = number

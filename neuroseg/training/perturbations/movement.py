"""Perturbations that move tissue within its section: `(shape, rng, strength) -> displacement`.

A displacement is `(2, z, y, x)` float32 in voxels: what shows at (z, y, x) was at (z, y + d[0], x + d[1]). Sections are
not mixed. Strength 0 moves nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from neuroseg.training.perturbations.appearance import Float, signed_distance

Shape = tuple[int, int, int]
_SHIFT_VOXELS = 17
_SHIFTED = 0.2
_SPACING = (4, 40, 40)
_ELASTIC_SIGMA_VOXELS = 2.0
_SCALE = 1.5
_FOLD_VOXELS = (3.0, 8.0)
_FOLD_FADES = 5.0


def misalign(shape: Shape, rng: np.random.Generator, strength: float = 1.0) -> Float:
    """Sections out of place by up to 17 voxels along y and x: single ones (a slip), or all from one on (a step)."""
    reach = round(_SHIFT_VOXELS * strength)
    slips = rng.uniform() < 0.5
    hit = rng.uniform(size=shape[0]) < _SHIFTED
    hit[0] = False
    shifts = np.zeros((2, shape[0]), np.float32)
    if slips:
        shifts[:, hit] = rng.integers(-reach, reach + 1, (2, int(hit.sum())))
    elif hit.any():
        shifts[:, int(hit.argmax()) :] = rng.integers(-reach, reach + 1, (2, 1))
    return np.broadcast_to(shifts[:, :, None, None], (2, *shape)).copy()


def elastic(shape: Shape, rng: np.random.Generator, strength: float = 1.0) -> Float:
    """A smooth random displacement: control points every 4 sections and 40 voxels, sigma 2 voxels."""
    coarse = [max(2, round(size / spacing) + 1) for size, spacing in zip(shape, _SPACING, strict=True)]
    drawn = rng.normal(0.0, _ELASTIC_SIGMA_VOXELS * strength, (2, *coarse)).astype(np.float32)
    zoom = [size / points for size, points in zip(shape, coarse, strict=True)]
    return np.stack([ndimage.zoom(part, zoom, order=1, grid_mode=True, mode="nearest") for part in drawn])


def rescale(shape: Shape, rng: np.random.Generator, strength: float = 1.0) -> Float:
    """A zoom about the centre of every section by 1/1.5 to 1.5."""
    factor = _SCALE ** (rng.uniform(-1.0, 1.0) * strength)
    out = np.zeros((2, *shape), np.float32)
    for axis, size in enumerate(shape[1:]):
        moved = (1 / factor - 1) * (np.arange(size) - (size - 1) / 2)
        out[axis] = np.expand_dims(moved, 1 - axis)
    return out


def fold(shape: Shape, rng: np.random.Generator, strength: float = 1.0) -> Float:
    """One to five sections pulled together along a straight line by 3 to 8 voxels, less with the distance from it."""
    out = np.zeros((2, *shape), np.float32)
    for section in rng.choice(shape[0], min(shape[0], int(rng.integers(1, 6))), replace=False):
        distance = signed_distance(shape[1:], rng)
        normal = np.array([np.gradient(distance, axis=axis) if distance.shape[axis] > 1 else 0 * distance
                           for axis in (0, 1)])  # fmt: skip
        width = rng.uniform(*_FOLD_VOXELS) * strength
        pull = np.sign(distance) * width * np.exp(-np.abs(distance) / (_FOLD_FADES * max(width, 1e-6)))
        out[:, section] = normal * pull
    return out


def moved(array: NDArray[Any], displacement: Float, *, order: int) -> NDArray[Any]:
    """Return `(z, y, x)` displaced: order 1 interpolates (raw), 0 takes the nearest (labels); faces mirror."""
    y, x = np.meshgrid(*(np.arange(size, dtype=np.float32) for size in array.shape[1:]), indexing="ij")
    sections = [
        ndimage.map_coordinates(section, [y + to[0], x + to[1]], array.dtype, order=order, mode="mirror")
        for section, to in zip(array, displacement.transpose(1, 0, 2, 3), strict=True)
    ]
    return np.stack(sections)

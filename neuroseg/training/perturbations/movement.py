"""Perturbations that move tissue within its section: `(shape, rng, strength) -> displacement`.

A displacement d is `(2, z, y, x)` float32 in voxels: the source of voxel (z, y, x) is (z, y + d[0], x + d[1]). Strength
0 moves nothing.
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
    """Return shifts of sections by up to 17 voxels along y and x: of single sections, or of all from one on."""
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
    """Return a smooth random displacement: control points every 4 sections and 40 voxels, sigma 2 voxels."""
    coarse = [max(2, round(size / spacing) + 1) for size, spacing in zip(shape, _SPACING, strict=True)]
    drawn = rng.normal(0.0, _ELASTIC_SIGMA_VOXELS * strength, (2, *coarse)).astype(np.float32)
    out = drawn.astype(np.float64)
    for axis, size in enumerate(shape, 1):
        out = _stretched(out, axis, size)
    return out.astype(np.float32)


def rescale(shape: Shape, rng: np.random.Generator, strength: float = 1.0) -> Float:
    """Return a zoom of all sections about their centre, by a random factor from 1/1.5 to 1.5."""
    factor = _SCALE ** (rng.uniform(-1.0, 1.0) * strength)
    out = np.zeros((2, *shape), np.float32)
    for axis, size in enumerate(shape[1:]):
        moved = (1 / factor - 1) * (np.arange(size) - (size - 1) / 2)
        out[axis] = np.expand_dims(moved, 1 - axis)
    return out


def fold(shape: Shape, rng: np.random.Generator, strength: float = 1.0) -> Float:
    """Return a fold of one to five sections: tissue pulled towards a line by 3 to 8 voxels, less with distance."""
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
    """Return an array `(z, y, x)` displaced. Faces are mirrored.

    Order 1 interpolates (for raw), order 0 takes the nearest voxel (for labels). Sections shifted by whole voxels are
    copied, which is faster and gives the same values.
    """
    y, x = np.meshgrid(*(np.arange(size, dtype=np.float32) for size in array.shape[1:]), indexing="ij")
    out = np.empty(array.shape, array.dtype)
    for shown, section, to in zip(out, array, displacement.transpose(1, 0, 2, 3), strict=True):
        shift = _whole_shift(to)
        if shift is None:
            ndimage.map_coordinates(section, [y + to[0], x + to[1]], shown, order=order, mode="mirror")
        else:
            shown[:] = section[np.ix_(*(_mirrored(*each) for each in zip(shift, section.shape, strict=True)))]
    return out


def _whole_shift(displacement: Float) -> tuple[int, int] | None:
    """Return the shift `(y, x)` in whole voxels of a section's displacement `(2, y, x)`, or None if it varies."""
    y, x = displacement[:, 0, 0]
    if y != round(y) or x != round(x) or (displacement != displacement[:, :1, :1]).any():
        return None
    return int(y), int(x)


def _mirrored(shift: int, size: int) -> NDArray[np.intp]:
    """Return the source index of each of `size` voxels shifted by `shift`, mirrored about the outermost voxels."""
    period = max(2 * size - 2, 1)
    folded = (np.arange(size) + shift) % period
    return np.minimum(folded, period - folded) if size > 1 else np.zeros(1, np.intp)


def _stretched(array: NDArray[np.float64], axis: int, size: int) -> NDArray[np.float64]:
    """Return an array with at least two points along an axis, interpolated to `size` voxels along that axis."""
    points = array.shape[axis]
    at = np.clip((np.arange(size) + 0.5) * (points / size) - 0.5, 0, points - 1)
    low = np.minimum(at.astype(np.intp), points - 2)
    share = np.expand_dims(at - low, tuple(range(1, array.ndim - axis)))
    out: NDArray[np.float64] = array.take(low, axis) * (1 - share) + array.take(low + 1, axis) * share
    return out

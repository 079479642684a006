"""Values on a coarse grid -> smooth fields, for warps, textures, drift and organelle depths of synthetic volumes."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]


def smooth_noise(shape: tuple[int, ...], spacing_voxels: float, rng: np.random.Generator) -> Float:
    """Return smooth Gaussian noise `(z, y, x)` of mean 0, standard deviation 1 and a grain of `spacing_voxels`.

    It is interpolated by cubic B-splines from random values on a coarse grid.
    """
    weights = [_spline_weights(length, spacing_voxels) for length in shape]
    return _along_axes(rng.standard_normal([matrix.shape[1] for matrix in weights], np.float32), weights)


def interpolated(coarse: Float, shape: tuple[int, ...], spacing_voxels: int) -> Float:
    """Return linearly interpolated values for an array of `shape` from nodes every `spacing_voxels` voxels.

    Values beyond the last node equal that of the last node.
    """
    return _along_axes(
        coarse,
        [_linear_weights(length, nodes, spacing_voxels) for length, nodes in zip(shape, coarse.shape, strict=True)],
    )


def _along_axes(field: Float, weights: list[Float]) -> Float:
    """Return `field` with each axis multiplied by its matrix `(length, nodes)`."""
    for matrix in weights:
        # Each product replaces the first axis by a fine axis and moves it to the end. The last one restores the order.
        field = np.moveaxis(np.tensordot(matrix, field, axes=1), 0, -1)
    return np.ascontiguousarray(field)


def _spline_weights(length: int, spacing: float) -> Float:
    """Return the cubic B-spline weights `(length, nodes)`, each row of norm 1, which keeps the noise's deviation."""
    nodes = np.arange(math.floor((length - 1) / spacing) + 4) - 1
    distance = np.abs(np.arange(length)[:, None] / spacing - nodes)
    near = 2 / 3 - distance**2 + distance**3 / 2
    weights = np.where(distance < 1, near, np.clip(2 - distance, 0, None) ** 3 / 6)
    normed: Float = (weights / np.linalg.norm(weights, axis=1, keepdims=True)).astype(np.float32)
    return normed


def _linear_weights(length: int, nodes: int, spacing: int) -> Float:
    """Return the weights `(length, nodes)` of linear interpolation."""
    place = np.minimum(np.arange(length) / spacing, nodes - 1)
    weights: Float = np.clip(1 - np.abs(place[:, None] - np.arange(nodes)), 0, None).astype(np.float32)
    return weights

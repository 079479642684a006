"""Neurites and their labels -> depth of each voxel in a mitochondrion, and shades of vesicles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from neuroseg.views.smooth import interpolated
from neuroseg.views.territories import STEP_VOXELS, Float, Samples

# Mitochondria are smooth, so their depth is computed on a grid of this spacing and interpolated.
GRID_VOXELS = 2
# Depth outside of mitochondria, in voxels: enough for the blurred edge.
OUTSIDE_VOXELS = -3.0
# Neurites thinner than this contain no mitochondrion.
MIN_NEURITE_RADIUS_VOXELS = 6.0
# Vesicles are 60 nm across, rims included.
VESICLE_REACH_VOXELS = 3
# Mean length of neurite per mitochondrion, in neurites thick enough to contain one.
SPACING_VOXELS = 50.0


def mitochondrion_depth(labels: NDArray[np.uint32], samples: Samples, rng: np.random.Generator) -> Float:
    """Return the depth of each voxel `(z, y, x)` inside a mitochondrion, in voxels, or -3 outside.

    A mitochondrion follows part of a strand. It is thinner than the strand, off its centre, and stays inside its label.
    """
    axes, radii, owners = _mitochondria(labels, samples, rng)
    if not len(axes):
        return np.full(labels.shape, OUTSIDE_VOXELS, np.float32)
    coarse_labels = labels[::GRID_VOXELS, ::GRID_VOXELS, ::GRID_VOXELS]
    nodes = np.indices(coarse_labels.shape).reshape(3, -1).T * GRID_VOXELS
    reach = radii.max() - OUTSIDE_VOXELS
    distance, nearest = cKDTree(axes).query(nodes, distance_upper_bound=reach)
    # Nodes without an axis point in reach get distance infinity and an index past the last point.
    depth = np.maximum(np.append(radii, 0)[nearest] - distance, OUTSIDE_VOXELS)
    depth[np.append(owners, 0)[nearest] != coarse_labels.ravel()] = OUTSIDE_VOXELS
    return interpolated(depth.reshape(coarse_labels.shape).astype(np.float32), labels.shape, GRID_VOXELS)


def _mitochondria(
    labels: NDArray[np.uint32], samples: Samples, rng: np.random.Generator
) -> tuple[Float, Float, NDArray[np.uint32]]:
    """Return axis points `(n, 3)` of all mitochondria, and the radius and label at each point."""
    places = np.rint(samples.positions).astype(int)
    inside = ((places >= 0) & (places < np.array(labels.shape))).all(axis=1)
    roomy = np.flatnonzero(inside & (samples.radii >= MIN_NEURITE_RADIUS_VOXELS))
    axes, radii, owners = [np.zeros((0, 3))], [np.zeros(0)], [np.zeros(0, np.uint32)]
    for centre in rng.permutation(roomy)[: rng.poisson(len(roomy) * STEP_VOXELS / SPACING_VOXELS)]:
        room = samples.radii[centre]
        half_length = rng.uniform(0.3, 2.2) * room / STEP_VOXELS
        stretch = np.flatnonzero(
            (samples.strands == samples.strands[centre]) & (abs(samples.steps - samples.steps[centre]) <= half_length)
        )
        aside = rng.normal(size=3)
        aside *= 0.25 * room * rng.uniform() / np.linalg.norm(aside)
        along = (samples.steps[stretch] - samples.steps[centre]) / (half_length + 1)
        axes.append(samples.positions[stretch] + aside)
        radii.append(min(room * rng.uniform(0.4, 0.7), 15.0) * np.sqrt(1 - 0.5 * along**2))
        owners.append(np.full(len(stretch), labels[tuple(places[centre])]))
    return np.concatenate(axes), np.concatenate(radii), np.concatenate(owners)


def vesicle_shade(border_distance: Float, count: int, rng: np.random.Generator) -> Float:
    """Return the shade `(z, y, x)` of up to `count` vesicles, from -1 (dark rim) to 0.5 (bright core), 0 elsewhere.

    Vesicles form clouds inside neurites, where `border_distance` (voxels) is greater than their radius.
    """
    shape = border_distance.shape
    shade = np.zeros(shape, np.float32)
    clouds = rng.uniform(0, shape, (max(1, count // 25), 3))
    centres = np.rint(clouds[rng.integers(len(clouds), size=count)] + rng.normal(0, 8, (count, 3))).astype(int)
    reach = VESICLE_REACH_VOXELS
    centres = centres[((centres >= reach) & (centres < np.array(shape) - reach)).all(axis=1)]
    centres = centres[border_distance[tuple(centres.T)] > reach + 1]
    offsets = np.indices((2 * reach + 1,) * 3).reshape(3, -1).T - reach
    distance = np.linalg.norm(offsets, axis=1)
    rim = 0.5 * (distance < 1) - np.exp(-((distance - 2) ** 2)) * (distance < reach + 0.5)
    rims = np.broadcast_to(rim.astype(np.float32), (len(centres), len(rim)))
    places = (centres[:, None] + offsets).reshape(-1, 3)
    np.minimum.at(shade, tuple(places.T), rims.ravel())
    return shade

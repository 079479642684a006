"""Affinities -> heights. The basins of their steepest ascent are the fragments.

height = smoothed(distance inside - distance outside + mean affinity) + ripple. All terms are whole multiples of
1/1024 voxel, which float32 represents exactly. So the order of additions does not change the result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neuroseg.fragments.distances import UNITS_PER_SQUARED_VOXEL, squared_distances
from neuroseg.fragments.settings import SMOOTHING_SUM, BasinSettings
from neuroseg.geometry import Triple
from neuroseg.kernels import compiled

UNITS_PER_VOXEL = 1024


def heights(
    affinities: NDArray[np.uint8], channels: Triple, links: NDArray[np.int64], origin: Triple, settings: BasinSettings
) -> NDArray[np.float32]:
    """Return the height `(z, y, x)` float32 of every voxel of `affinities` `(c, z, y, x)` uint8.

    `channels`: indices of the channels that link direct neighbours along z, y, x. `links` `(3, n)`: for each axis and
    coordinate, the coordinate at which the link of the voxel is stored, or -1 without a neighbour; see
    basins.stored_links. `origin`: global coordinate of the first voxel.

    Values closer to a face of the array than the reach of distances and smoothing are correct only if the volume ends
    there. The height is minus infinity if the mean affinity is below `settings.mask_boundary`.
    """
    means, inside = mean_affinity(affinities, channels, links, settings.axes)
    limit = round(settings.reach**2 * UNITS_PER_SQUARED_VOXEL)
    lengths = np.array(
        [round(UNITS_PER_VOXEL * math.sqrt(s / UNITS_PER_SQUARED_VOXEL)) for s in range(limit + 1)], np.float32
    )
    to_outside, to_inside = squared_distances(~inside, settings), squared_distances(inside, settings)
    raised: NDArray[np.float32] = _signed(inside, to_outside, to_inside, lengths, means)
    for axis in settings.axes:
        raised = _smoothed(raised, axis, settings)
    for axis in settings.axes:
        shape = [-1 if a == axis else 1 for a in range(3)]
        raised += ripple(origin[axis], raised.shape[axis], axis, settings).reshape(shape)
    if settings.mask_boundary > 0:
        raised[means < round(1024 * settings.mask_boundary)] = -np.inf
    return raised


def ripple(begin: int, count: int, axis: int, settings: BasinSettings) -> NDArray[np.float32]:
    """Return the periodic term at the global coordinates `begin` to `begin + count` of an axis."""
    period = max(2, round(settings.period / settings.voxel_size[axis]))
    height = settings.ripple * UNITS_PER_VOXEL / 2
    table = np.array([round(height * (1 + math.cos(2 * math.pi * i / period))) for i in range(period)], np.float32)
    return table[np.arange(begin, begin + count) % period]


def mean_affinity(
    affinities: NDArray[np.uint8], channels: Triple, links: NDArray[np.int64], axes: Sequence[int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the mean affinity over `axes` in units of 1/1024, float32, and whether it is above one half.

    Only axes with a link are included. A voxel without links counts as inside. `channels` and `links` as in `heights`.
    """
    means_and_inside: tuple[NDArray[np.float32], NDArray[np.bool_]] = _mean_affinity(
        affinities, np.array(channels), links, np.array(axes), _means_of_sums()
    )
    return means_and_inside


def _means_of_sums() -> NDArray[np.float32]:
    """Return the mean affinity in units of 1/1024, `(4, 766)`, by number of links and sum of affinities.

    Without links, the mean is 1: a volume that is one voxel wide along every axis is one fragment.
    """
    sums, links = np.arange(3 * 255 + 1), np.arange(1, 4)[:, None]
    means = (sums * UNITS_PER_VOXEL + 127 * links) // (255 * links)
    return np.concatenate([np.full((1, len(sums)), UNITS_PER_VOXEL), means]).astype(np.float32)


@compiled
def _mean_affinity(affinities, channels, links, axes, means_of_sums):  # type: ignore[no-untyped-def]
    _, depth, height, width = affinities.shape
    means = np.empty((depth, height, width), np.float32)
    inside = np.empty((depth, height, width), np.bool_)
    sums, counts = np.empty(width, np.int32), np.empty(width, np.int32)
    for z in range(depth):
        for y in range(height):
            sums[:] = 0
            counts[:] = 0
            for axis in axes:
                _add_links(affinities[channels[axis]], links[axis], axis, z, y, sums, counts)
            for x in range(width):
                inside[z, y, x] = (2 * sums[x] > 255 * counts[x]) | (counts[x] == 0)
                means[z, y, x] = means_of_sums[counts[x], sums[x]]
    return means, inside


@compiled
def _add_links(affinities, places, axis, z, y, sums, counts):  # type: ignore[no-untyped-def]
    """Add the affinities of the links along one axis to `sums` and their number to `counts`, for a row of voxels."""
    if axis == 2:
        for x in range(len(sums)):
            if places[x] >= 0:
                sums[x] += affinities[z, y, places[x]]
                counts[x] += 1
        return
    at = places[z] if axis == 0 else places[y]
    if at >= 0:
        row = affinities[at, y] if axis == 0 else affinities[z, at]
        for x in range(len(sums)):
            sums[x] += row[x]
            counts[x] += 1


@compiled
def _signed(inside, to_outside, to_inside, lengths, means):  # type: ignore[no-untyped-def]
    out = np.empty(inside.shape, np.float32)
    depth, height, width = inside.shape
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                if inside[z, y, x]:
                    length = lengths[np.int64(to_outside[z, y, x])]
                else:
                    length = -lengths[np.int64(to_inside[z, y, x])]
                out[z, y, x] = length + means[z, y, x]
    return out


def _smoothed(values: NDArray[np.float32], axis: int, settings: BasinSettings) -> NDArray[np.float32]:
    """Return `values` convolved along one axis with a Gaussian of whole-number weights. Border values are repeated."""
    weights = settings.smoothing_weights(axis)
    if len(weights) == 1:
        return values
    smooth: NDArray[np.float32] = _convolved(values, axis, np.array(weights, np.float32))
    return smooth


@compiled
def _convolved(values, axis, weights):  # type: ignore[no-untyped-def]
    depth, height, width = values.shape
    out = np.empty(values.shape, np.float32)
    total = np.empty(width, np.float32)
    for z in range(depth):
        for y in range(height):
            total[:] = weights[0] * values[z, y]
            for step in range(1, len(weights)):
                if axis == 0:
                    lower, upper = values[max(z - step, 0), y], values[min(z + step, depth - 1), y]
                    _add_weighted(total, lower, upper, weights[step])
                elif axis == 1:
                    lower, upper = values[z, max(y - step, 0)], values[z, min(y + step, height - 1)]
                    _add_weighted(total, lower, upper, weights[step])
                else:
                    _add_weighted_along(total, values[z, y], step, weights[step])
            for x in range(width):
                out[z, y, x] = np.floor((total[x] + np.float32(SMOOTHING_SUM / 2)) * np.float32(1 / SMOOTHING_SUM))
    return out


@compiled
def _add_weighted(total, lower, upper, weight):  # type: ignore[no-untyped-def]
    for x in range(len(total)):
        total[x] += weight * (lower[x] + upper[x])


@compiled
def _add_weighted_along(total, row, step, weight):  # type: ignore[no-untyped-def]
    """Add both neighbours at distance `step` in a row. The first loop is vectorised."""
    width = len(row)
    first, last = min(step, width), max(width - step, min(step, width))
    for x in range(first, last):
        total[x] += weight * (row[x - step] + row[x + step])
    for x in range(first):
        total[x] += weight * (row[max(x - step, 0)] + row[min(x + step, width - 1)])
    for x in range(last, width):
        total[x] += weight * (row[max(x - step, 0)] + row[min(x + step, width - 1)])

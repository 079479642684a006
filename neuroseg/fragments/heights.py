"""Affinities -> heights. The basins of their steepest ascent are the fragments.

height = smoothed(distance inside - distance outside + mean affinity) + ripple. All terms are whole multiples of
1/1024 voxel, stored as integers. So the order of additions does not change the result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray

from neuroseg.fragments.distances import UNITS_PER_SQUARED_VOXEL, signed_squares
from neuroseg.fragments.settings import SMOOTHING_SUM, BasinSettings
from neuroseg.geometry import Triple, grown, slices, whole
from neuroseg.kernels import compiled

UNITS_PER_VOXEL = 1024
UNSEGMENTED = -(1 << 24)
"""The height of a voxel that belongs to no fragment: below all others."""

_SMOOTHING_SHIFT = SMOOTHING_SUM.bit_length() - 1
_SUMS = 3 * 255 + 1  # possible sums of three affinities
# Voxels that a loop processes before the next one: its working set fits in the cache.
_PIECE = 1024


def heights(
    affinities: NDArray[np.uint8],
    channels: Triple,
    links: NDArray[np.int64],
    origin: Triple,
    settings: BasinSettings,
    region: Roi | None = None,
) -> NDArray[np.int32]:
    """Return the height `(z, y, x)` int32 of the voxels of `region`, from `affinities` `(c, z, y, x)` uint8.

    `channels`: indices of the channels that link direct neighbours along z, y, x. `links` `(3, n)`: for each axis and
    coordinate, the coordinate at which the link of the voxel is stored, or -1 without a neighbour; see
    basins.stored_links. `origin`: global coordinate of the first voxel. `region` is relative to it; default: the whole
    array.

    Values closer to a face of the array than the reach of distances and smoothing are correct only if the volume ends
    there. The height is UNSEGMENTED if the mean affinity is below `settings.mask_boundary`.
    """
    available = whole(affinities.shape[1:])
    region = available if region is None else region
    sums, inside = _linked(affinities, np.array(channels), links, np.array(settings.axes))
    reach = Coordinate(settings.smoothing_reach_voxels)
    around = grown(region, reach, available)
    squares = signed_squares(inside, settings, around)
    raised = _signed(squares, sums[slices(around)], _signed_lengths(settings), _means_of_sums())
    raised = _smoothed(_with_borders(raised, around, region.grow(reach, reach)), settings)
    inner = raised[slices(region, region.begin - reach)]
    corner = region.begin + Coordinate(origin)
    ripples = [ripple(corner[axis], region.shape[axis], axis, settings) for axis in range(3)]
    lowest = round(UNITS_PER_VOXEL * settings.mask_boundary)
    out: NDArray[np.int32] = _finished(inner, *ripples, sums[slices(region)], _means_of_sums(), lowest)
    return out


def ripple(begin: int, count: int, axis: int, settings: BasinSettings) -> NDArray[np.int32]:
    """Return the periodic term at the global coordinates `begin` to `begin + count`. Per section, it is 0 along z."""
    if axis not in settings.axes:
        return np.zeros(count, np.int32)
    period = max(2, round(settings.period / settings.voxel_size[axis]))
    height = settings.ripple * UNITS_PER_VOXEL / 2
    table = np.array([round(height * (1 + math.cos(2 * math.pi * i / period))) for i in range(period)], np.int32)
    return table[np.arange(begin, begin + count) % period]


def mean_affinity(
    affinities: NDArray[np.uint8], channels: Triple, links: NDArray[np.int64], axes: Sequence[int]
) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Return the mean affinity over `axes` in units of 1/1024, int16, and whether it is above one half.

    Only axes with a link are included. A voxel without links counts as inside. `channels` and `links` as in `heights`.
    """
    sums, inside = _linked(affinities, np.array(channels), links, np.array(axes))
    return _means_of_sums()[sums], inside


@cache
def _means_of_sums() -> NDArray[np.int16]:
    """Return the mean affinity in units of 1/1024, for each index that `_linked` returns.

    Without links, the mean is 1: a volume that is one voxel wide along every axis is one fragment.
    """
    sums, links = np.arange(_SUMS), np.arange(1, 4)[:, None]
    means = (sums * UNITS_PER_VOXEL + 127 * links) // (255 * links)
    return np.concatenate([np.full((1, _SUMS), UNITS_PER_VOXEL), means]).astype(np.int16).ravel()


@compiled
def _linked(affinities, channels, links, axes):  # type: ignore[no-untyped-def]
    """Index of each voxel in `_means_of_sums`, uint16: sum of affinities, by number of links. Whether it is inside."""
    _, depth, height, width = affinities.shape
    indices = np.empty((depth, height, width), np.uint16)
    inside = np.empty((depth, height, width), np.bool_)
    counts = np.empty(width, np.uint16)
    for z in range(depth):
        for y in range(height):
            sums = indices[z, y]
            sums[:] = 0
            counts[:] = 0
            for axis in axes:
                places, channel = links[axis], affinities[channels[axis]]
                if axis == 2:
                    _add_links_along_x(channel[z, y], places, sums, counts)
                elif axis == 1 and places[y] >= 0:
                    _add_links(channel[z, places[y]], sums, counts)
                elif axis == 0 and places[z] >= 0:
                    _add_links(channel[places[z], y], sums, counts)
            _complete(sums, counts, inside[z, y])
    return indices, inside


@compiled
def _add_links(row, sums, counts):  # type: ignore[no-untyped-def]
    for x in range(len(row)):
        sums[x] += row[x]
        counts[x] += 1


@compiled
def _add_links_along_x(row, places, sums, counts):  # type: ignore[no-untyped-def]
    """Add the affinities of the links along x. Almost all are stored at their own place: that loop is vectorised."""
    _add_links(row, sums, counts)
    for x in range(len(row)):
        if places[x] != x:
            sums[x] += (row[places[x]] if places[x] >= 0 else np.uint8(0)) - row[x]
            counts[x] -= places[x] < 0


@compiled
def _complete(sums, counts, inside):  # type: ignore[no-untyped-def]
    for x in range(len(sums)):
        inside[x] = (np.int32(2 * sums[x]) > np.int32(255 * counts[x])) | (counts[x] == 0)
        sums[x] += np.uint16(_SUMS * counts[x])


@cache
def _signed_lengths(settings: BasinSettings) -> NDArray[np.int16]:
    """Return the lengths in units of 1/1024 voxel of signed squared distances, from the smallest to the largest."""
    limit = round(settings.reach**2 * UNITS_PER_SQUARED_VOXEL)
    lengths = [round(UNITS_PER_VOXEL * math.sqrt(square / UNITS_PER_SQUARED_VOXEL)) for square in range(limit + 1)]
    return np.array([-length for length in lengths[:0:-1]] + lengths, np.int16)


@compiled
def _signed(squares, sums, signed_lengths, means_of_sums):  # type: ignore[no-untyped-def]
    """Signed distance + mean affinity, int16."""
    depth, height, width = squares.shape
    zero = len(signed_lengths) // 2
    out = np.empty(squares.shape, np.int16)
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                out[z, y, x] = signed_lengths[zero + squares[z, y, x]] + means_of_sums[sums[z, y, x]]
    return out


def _with_borders(values: NDArray[np.int16], region: Roi, wanted: Roi) -> NDArray[np.int16]:
    """Return the values of `region` extended to `wanted` by repeating those at its faces."""
    ends = zip(region.begin, region.end, wanted.begin, wanted.end, strict=True)
    return np.pad(values, [(begin - first, last - end) for begin, end, first, last in ends], "edge")


def _smoothed(values: NDArray[np.int16], settings: BasinSettings) -> NDArray[np.int16]:
    """Return `values` convolved with a Gaussian of whole-number weights along each axis.

    Values closer to a face than the reach of the smoothing are wrong.
    """
    flat = np.ascontiguousarray(values).reshape(-1)
    for axis, step in enumerate((values[0].size, values.shape[2], 1)):
        weights = settings.smoothing_weights(axis)
        if axis in settings.axes and len(weights) > 1:
            flat = _convolved(flat, step, np.array(weights, np.int32))
    return flat.reshape(values.shape)


@compiled
def _convolved(values, step, weights):  # type: ignore[no-untyped-def]
    """Convolve along an axis whose neighbours are `step` voxels apart, over all rows and sections in one go."""
    out = values.copy()
    total = np.empty(_PIECE, np.int32)
    reach = (len(weights) - 1) * step
    for first in range(reach, len(values) - reach, _PIECE):
        last = min(first + _PIECE, len(values) - reach)
        total[:] = SMOOTHING_SUM // 2  # to round
        _add_weighted(total, values[first:last], weights[0])
        for n in range(1, len(weights)):
            _add_weighted(total, values[first - n * step : last - n * step], weights[n])
            _add_weighted(total, values[first + n * step : last + n * step], weights[n])
        _divide(total, out[first:last])
    return out


@compiled
def _add_weighted(total, values, weight):  # type: ignore[no-untyped-def]
    for i in range(len(values)):
        total[i] += np.int32(weight * np.int32(values[i]))


@compiled
def _divide(total, out):  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        out[i] = np.int16(total[i] >> _SMOOTHING_SHIFT)


@compiled
def _finished(raised, ripple_z, ripple_y, ripple_x, sums, means_of_sums, lowest):  # type: ignore[no-untyped-def]
    """Heights with the periodic term. UNSEGMENTED if the mean affinity is below `lowest`."""
    depth, height, width = raised.shape
    out = np.empty(raised.shape, np.int32)
    for z in range(depth):
        for y in range(height):
            _add_ripple(raised[z, y], np.int32(ripple_z[z] + ripple_y[y]), ripple_x, out[z, y])
            if lowest > 0:
                for x in range(width):
                    if means_of_sums[sums[z, y, x]] < lowest:
                        out[z, y, x] = UNSEGMENTED
    return out


@compiled
def _add_ripple(row, ripple, ripple_x, out):  # type: ignore[no-untyped-def]
    for x in range(len(out)):
        out[x] = np.int32(np.int32(row[x]) + np.int32(ripple_x[x] + ripple))

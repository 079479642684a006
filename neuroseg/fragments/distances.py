"""A mask -> exact signed squared distances to its border, independent of the crop.

The transform is separable and uses relative offsets in a window. Voxels farther than the reach do not affect a value,
so a crop with that halo gives the same bytes as the whole volume. Transforms of libraries (edt, scipy) run over whole
axes, and their last bit depends on the crop for some voxel sizes. Squared distances are whole multiples of 1/16 of a
squared xy voxel.

One transform gives both sides: a voxel inside only needs its distance to the outside, and the other way round. Along
an axis, voxels of the other side count 0, and voxels of the own side their distance so far:

    signed distances   4  4  1 -1 -4        as seen from inside    4  4  1  0  0
                                            as seen from outside   0  0  0  1  4
"""

from __future__ import annotations

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.fragments.settings import BasinSettings
from neuroseg.kernels import compiled

UNITS_PER_SQUARED_VOXEL = 16
# Voxels that a loop processes before the next one: its working set fits in the cache.
_PIECE = 1024


def signed_squares(inside: NDArray[np.bool_], settings: BasinSettings, region: Roi) -> NDArray[np.int16]:
    """Return the squared distance of each voxel of `region` to the nearest voxel of the other side, `(z, y, x)` int16.

    Positive at true voxels of `inside` `(z, y, x)`, negative at false ones. Whole numbers in units of 1/16 of a squared
    xy voxel, clipped at the reach. `region` is relative to the array. Voxels outside the array are on neither side.
    """
    limit = round(settings.reach**2 * UNITS_PER_SQUARED_VOXEL)
    weights = [round(edge**2 * UNITS_PER_SQUARED_VOXEL) for edge in settings.voxel_size]
    reach = settings.distance_reach_voxels
    squares = _along_z(inside.view(np.uint8), region.begin[0], region.end[0], weights[0], reach[0], limit)
    # The axis that a kernel works on comes first, so that its loops run over long pieces of memory.
    squares = np.ascontiguousarray(squares.transpose(1, 0, 2))
    squares = _nearest(squares, region.begin[1], region.end[1], weights[1], reach[1], limit)
    squares = np.ascontiguousarray(squares.transpose(2, 1, 0))
    squares = _nearest(squares, region.begin[2], region.end[2], weights[2], reach[2], limit)
    return np.ascontiguousarray(squares.transpose(1, 2, 0))


@compiled
def _along_z(inside, begin, end, weight, reach, limit):  # type: ignore[no-untyped-def]
    """Signed squared distance along z of sections `begin` to `end`: count the steps to the other side both ways."""
    depth, size = inside.shape[0], inside.shape[1] * inside.shape[2]
    out = np.empty((end - begin, inside.shape[1], inside.shape[2]), np.int16)
    sections, out_sections = inside.reshape(depth, size), out.reshape(end - begin, size)
    downward, upward = np.empty((depth, _PIECE), np.uint8), np.empty(_PIECE, np.uint8)
    far = np.uint8(reach + 1)
    for first in range(0, size, _PIECE):
        piece = slice(first, min(first + _PIECE, size))
        downward[0] = far
        for z in range(1, end):
            _count_steps(sections[z, piece], sections[z - 1, piece], downward[z - 1], downward[z], far)
        upward[:] = far
        for z in range(depth - 1, begin - 1, -1):
            if z < depth - 1:
                _count_steps(sections[z, piece], sections[z + 1, piece], upward, upward, far)
            if z < end:
                here, squares = sections[z, piece], out_sections[z - begin, piece]
                _square_steps(here, downward[z], upward, far, np.int16(weight), np.int16(limit), squares)
    return out


@compiled
def _count_steps(here, before, steps_before, steps, far):  # type: ignore[no-untyped-def]
    """Steps to the nearest voxel of the other side, for a piece of a section, from those of the section before."""
    for i in range(len(here)):
        more = np.uint8(steps_before[i] + 1)
        more = more if more < far else far
        steps[i] = more if here[i] == before[i] else np.uint8(1)


@compiled
def _square_steps(inside, downward, upward, far, weight, limit, out):  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        steps = downward[i] if downward[i] < upward[i] else upward[i]
        square = np.int16(np.int16(np.int16(steps) * np.int16(steps)) * weight)
        square = square if steps < far and square < limit else limit
        out[i] = square if inside[i] else np.int16(-square)


@compiled
def _nearest(squares, begin, end, weight, reach, limit):  # type: ignore[no-untyped-def]
    """Signed minimum of distance + weight * step^2 along the first axis, at coordinates `begin` to `end`."""
    rest = squares.shape[1] * squares.shape[2]
    source = squares.reshape(-1)
    out = np.empty((end - begin, squares.shape[1], squares.shape[2]), np.int16)
    flat = out.reshape(-1)
    best, sign = np.empty(_PIECE, np.int16), np.empty(_PIECE, np.int16)
    for first in range(begin * rest, end * rest, _PIECE):
        last = min(first + _PIECE, end * rest)
        largest = _sides(source[first:last], sign, best)
        for step in range(1, reach + 1):
            cost = np.int32(weight * step * step)
            if cost >= min(largest, np.int32(limit)):
                break
            # Voxels that have a partner in the array.
            lower, upper = max(first, step * rest), min(last, len(source) - step * rest)
            if lower < last:
                partners = source[lower - step * rest : last - step * rest]
                _shorten(best[lower - first :], sign[lower - first :], partners, np.int16(cost))
            if upper > first:
                _shorten(best, sign, source[first + step * rest : upper + step * rest], np.int16(cost))
            largest = _largest(best[: last - first])
        _join(best, sign, flat[first - begin * rest : last - begin * rest])
    return out


@compiled
def _sides(squares, sign, best):  # type: ignore[no-untyped-def]
    """Split signed squares in sign and size. Return the largest size."""
    for i in range(len(squares)):
        sign[i] = np.int16(1) if squares[i] >= 0 else np.int16(-1)
        best[i] = np.int16(squares[i] * sign[i])
    return _largest(best[: len(squares)])


@compiled
def _join(best, sign, out):  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        out[i] = np.int16(best[i] * sign[i])


@compiled
def _largest(values):  # type: ignore[no-untyped-def]
    largest = np.int16(0)
    for i in range(len(values)):
        largest = values[i] if values[i] > largest else largest
    return np.int32(largest)


@compiled
def _shorten(best, sign, partners, cost):  # type: ignore[no-untyped-def]
    """Lower `best` to the distance through each voxel's partner."""
    for i in range(len(partners)):
        beyond = np.int16(sign[i] * partners[i])
        through = np.int16((beyond if beyond > 0 else np.int16(0)) + cost)
        best[i] = through if through < best[i] else best[i]

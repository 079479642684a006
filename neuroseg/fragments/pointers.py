"""Heights -> the neighbour of steepest ascent of each voxel.

Each voxel has a number with its height in the upper bits. Neighbours at the same distance are compared by height and
then by index, and this is one comparison of such numbers: the height times 32, plus a bonus that is larger for
neighbours with a smaller index. Only the winners for each distance are compared by steepness.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from neuroseg.fragments.heights import UNSEGMENTED
from neuroseg.fragments.settings import BasinSettings
from neuroseg.kernels import compiled

ROOT = 13
OUTSIDE = -1

_CODE_BITS = 5
_LAST_CODE = (1 << _CODE_BITS) - 1
# Voxels that a loop processes before the next one: its working set fits in the cache.
_PIECE = 1024


def pointers(framed: NDArray[np.int32], settings: BasinSettings) -> NDArray[np.int8]:
    """Return the code of the neighbour of steepest ascent, `(z, y, x)` int8: 9 (dz + 1) + 3 (dy + 1) + dx + 1.

    `framed`: heights of these voxels and of one more on each side. The codes of this frame have no meaning. ROOT: no
    neighbour is higher. OUTSIDE: the voxel belongs to no fragment.

    Among equally steep neighbours, the one with the smallest global index is chosen. On a plateau, a voxel points only
    to neighbours with a smaller index. So (height, -index) increases along every path, and there are no cycles.
    """
    codes = _codes(settings)
    slopes = np.array([_slope(code, settings) for code in codes], np.float32)
    order = np.argsort(slopes, kind="stable")
    out: NDArray[np.int8] = _steepest(framed, codes[order], moves(framed.shape)[codes[order]], slopes[order])
    return out


def moves(shape: tuple[int, ...]) -> NDArray[np.int32]:
    """Return the step in a flat array of `shape` that each code stands for."""
    steps = np.array(list(itertools.product((-1, 0, 1), repeat=3)), np.int32)
    return steps @ np.array([shape[1] * shape[2], shape[2], 1], np.int32)


def _codes(settings: BasinSettings) -> NDArray[np.int32]:
    """Return the codes of the neighbours."""
    along = [(-1, 0, 1) if axis in settings.axes else (0,) for axis in range(3)]
    codes = [9 * (z + 1) + 3 * (y + 1) + x + 1 for z, y, x in itertools.product(*along)]
    return np.array([code for code in codes if code != ROOT], np.int32)


def _slope(code: int, settings: BasinSettings) -> float:
    """Return the reciprocal of the distance to a neighbour."""
    step = (code // 9 - 1, code // 3 % 3 - 1, code % 3 - 1)
    return float(1 / np.sqrt(sum((s * edge) ** 2 for s, edge in zip(step, settings.voxel_size, strict=True))))


@compiled
def _steepest(framed, codes, steps, slopes):  # type: ignore[no-untyped-def]
    """See `pointers`. Neighbours with the same slope follow each other."""
    _, height, width = framed.shape
    numbers = (framed << _CODE_BITS).reshape(-1)
    out = np.empty(framed.shape, np.int8)
    flat = out.reshape(-1)
    highest, steepest, chosen = np.empty(_PIECE, np.int32), np.empty(_PIECE, np.float32), np.empty(_PIECE, np.int32)
    margin = height * width + width + 1
    for first in range(margin, len(numbers) - margin, _PIECE):
        last = min(first + _PIECE, len(numbers) - margin)
        here = numbers[first:last]
        steepest[:] = 0
        chosen[:] = ROOT
        highest[:] = np.iinfo(np.int32).min
        for n in range(len(codes)):
            there = numbers[first + steps[n] : last + steps[n]]
            _raise(highest, there, np.int32(_LAST_CODE - codes[n]))
            if n + 1 == len(codes) or slopes[n + 1] != slopes[n]:
                _choose(here, highest, slopes[n], steepest, chosen)
                highest[:] = np.iinfo(np.int32).min
        _store(here, chosen, flat[first:last])
    return out


@compiled
def _raise(highest, there, bonus):  # type: ignore[no-untyped-def]
    for i in range(len(there)):
        number = np.int32(there[i] + bonus)
        highest[i] = number if number > highest[i] else highest[i]


@compiled
def _choose(here, highest, slope, steepest, chosen):  # type: ignore[no-untyped-def]
    """Point to the highest neighbours of one distance where they are the steepest so far."""
    for i in range(len(here)):
        rise = np.float32(np.int32((highest[i] >> _CODE_BITS) - (here[i] >> _CODE_BITS))) * slope
        code = np.int32(_LAST_CODE - (highest[i] & _LAST_CODE))
        take = (rise > steepest[i]) | ((rise == steepest[i]) & (code < chosen[i]))
        steepest[i] = rise if take else steepest[i]
        chosen[i] = code if take else chosen[i]


@compiled
def _store(here, chosen, out):  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        out[i] = np.int8(OUTSIDE) if here[i] == UNSEGMENTED << _CODE_BITS else np.int8(chosen[i])

"""One number per block -> a picture of the lattice of blocks, which stays small for 10^5 blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroseg.views.webp import Pixels, ramp

# States of blocks. A projection shows the highest state.
OUTSIDE, DONE, LEFT, FAILED = range(4)
STATE_COLOURS: Pixels = np.array(
    [[0, 0, 0, 0], [68, 119, 170, 255], [187, 187, 187, 255], [204, 51, 17, 255]], np.uint8
)
# More layers of blocks than this are projected along z.
MOST_LAYERS = 8
# The longest side of a picture in pixels, and the largest edge of a block.
_LONGEST_PIXELS, _LARGEST_CELL_PIXELS = 900, 20
# From this edge on, a line separates the blocks.
_RULED_CELL_PIXELS = 6


def state_map(states: NDArray[np.uint8]) -> Pixels:
    """Return a picture `(height, width, 4)` of the states `(z, y, x)` of blocks. OUTSIDE is transparent."""
    return _enlarged(STATE_COLOURS[_sheet(states, OUTSIDE)])


def number_map(numbers: NDArray[np.float64], largest: float) -> Pixels:
    """Return a picture `(height, width, 4)` of one number per block `(z, y, x)`, from 0 to `largest`.

    Blocks with NaN are transparent. A projection shows the largest number.
    """
    sheet = _sheet(numbers, np.nan)
    known = ~np.isnan(sheet)
    picture = np.zeros((*sheet.shape, 4), np.uint8)
    picture[known, :3] = ramp(sheet[known] / largest) if largest > 0 else ramp(np.zeros(int(known.sum())))
    picture[known, 3] = 255
    return _enlarged(picture)


def is_projected(counts: tuple[int, int, int]) -> bool:
    """Return whether the picture of `counts` blocks (z, y, x) is a projection along z."""
    return counts[0] > MOST_LAYERS


def _sheet(values: NDArray[Any], nothing: float) -> NDArray[Any]:
    """Return the layers of blocks side by side, one cell of `nothing` between them, or their maximum."""
    if len(values) > MOST_LAYERS:
        # fmax ignores NaN where another layer has a number.
        largest: NDArray[Any] = np.fmax.reduce(values, axis=0)
        return largest
    gap = np.full((values.shape[1], 1), nothing, values.dtype)
    parts = [part for layer in values for part in (gap, layer)]
    return np.concatenate(parts[1:], axis=1)


def _enlarged(picture: Pixels) -> Pixels:
    """Return a picture with a square of pixels per cell, with a transparent line between cells that are large."""
    edge = max(1, min(_LARGEST_CELL_PIXELS, _LONGEST_PIXELS // max(picture.shape[:2])))
    large = picture.repeat(edge, axis=0).repeat(edge, axis=1)
    if edge >= _RULED_CELL_PIXELS:
        large[edge - 1 :: edge] = 0
        large[:, edge - 1 :: edge] = 0
    return large

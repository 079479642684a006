"""Tiles: what the network sees, on a lattice anchored at the volume's origin.

    |<- context ->|<-- output tile -->|<- context ->|
    |<------------- input window ----------------->|

The same output tile is predicted from the same input window whatever block asks for it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray

from neuroseg.geometry import Triple, triple


def tiles_covering(roi: Roi, tile: Triple) -> list[Roi]:
    """Return the output tiles that touch `roi`, whole ones, in row-major order."""
    ranges = [
        range(begin // width, -(-end // width)) for begin, end, width in zip(roi.begin, roi.end, tile, strict=True)
    ]
    shape = Coordinate(tile)
    return [Roi(Coordinate(cell) * shape, shape) for cell in itertools.product(*ranges)]


def rounded_to_tiles(block: Triple, tile: Triple) -> Triple:
    """Return the block shape rounded up to whole tiles: then no tile is computed twice."""
    return triple([-(-size // width) * width for size, width in zip(block, tile, strict=True)])


def reflected_indices(begin: int, end: int, size: int) -> NDArray[np.int64]:
    """Return the coordinates to read for `begin` to `end` of an axis of `size` voxels, reflected at its faces.

    The face's own voxel is not repeated (... 2 1 0 1 2 ...); wide windows reflect again and again.
    """
    if size == 1:
        return np.zeros(end - begin, np.int64)
    folded = np.arange(begin, end) % (2 * size - 2)
    return np.where(folded < size, folded, 2 * size - 2 - folded)


def read_window(read: Callable[[Roi], NDArray[np.generic]], window: Roi, shape: Sequence[int]) -> NDArray[np.generic]:
    """Return the voxels of `window`, which may reach past the volume of `shape`: reflected there.

    `read(roi)` returns the voxels of a region within the volume.
    """
    indices = [reflected_indices(b, e, s) for b, e, s in zip(window.begin, window.end, shape, strict=True)]
    begin = [int(i.min()) for i in indices]
    known = read(Roi(begin, [int(i.max()) + 1 - b for i, b in zip(indices, begin, strict=True)]))
    z, y, x = (i - b for i, b in zip(indices, begin, strict=True))
    return known[np.ix_(z, y, x)]

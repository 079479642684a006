"""Tiles: what the network sees, on a lattice anchored at the volume's origin.

    |<- context ->|<-- output tile -->|<- context ->|
    |<------------- input window ----------------->|

The same output tile is predicted from the same input window whatever block asks for it. Windows overlap: `centre`
keeps the output tile alone of each, `gaussian` blends all of them.
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


def windows_covering(roi: Roi, tile: Triple, context: Triple) -> list[Roi]:
    """Return the output tiles whose input windows touch `roi`, in row-major order; some may lie beyond the volume."""
    reach = Coordinate(context)
    return tiles_covering(roi.grow(reach, reach), tile)


def blending_weights(tile: Triple, context: Triple) -> NDArray[np.float32]:
    """Return the weight `(z, y, x)` of each voxel of an input window in the Gaussian blend.

    1e-6 + exp(-d^2 / (2 0.2^2)), d the distance to the window's centre with its faces at 1 (the inference of superhuman
    affinities), divided by the sum over all windows that see the voxel. That sum repeats with the lattice of tiles,
    whose windows go on beyond the volume's faces, so the weights are the same for every window and sum to 1 everywhere.
    """
    window = [width + 2 * margin for width, margin in zip(tile, context, strict=True)]
    axes = [np.linspace(-1.0, 1.0, size) for size in window]
    squared = sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij", sparse=True))
    weights = 1e-6 + np.exp(-squared / (2 * 0.2**2))
    places = [np.arange(size) % width for size, width in zip(window, tile, strict=True)]
    total = np.zeros(tile)
    np.add.at(total, np.ix_(*places), weights)
    return (weights / total[np.ix_(*places)]).astype(np.float32)


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

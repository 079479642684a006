"""Tiles of the network, on a lattice that starts at the origin of the volume.

    |<- context ->|<-- output tile -->|<- context ->|
    |<------------- input window ----------------->|

An output tile is always predicted from the same input window, in every block. Windows overlap. The blend `centre` uses
only the output tile of each window. The blend `gaussian` uses the weighted sum of all windows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray

from neuroseg.geometry import Triple, triple


def tiles_covering(roi: Roi, tile: Triple) -> list[Roi]:
    """Return the complete output tiles that overlap `roi`, in row-major order."""
    ranges = [
        range(begin // width, -(-end // width)) for begin, end, width in zip(roi.begin, roi.end, tile, strict=True)
    ]
    shape = Coordinate(tile)
    return [Roi(Coordinate(cell) * shape, shape) for cell in itertools.product(*ranges)]


def windows_covering(roi: Roi, tile: Triple, context: Triple) -> list[Roi]:
    """Return the output tiles whose input windows overlap `roi`, in row-major order. Some may be outside the volume."""
    reach = Coordinate(context)
    return tiles_covering(roi.grow(reach, reach), tile)


def blending_weights(tile: Triple, context: Triple) -> NDArray[np.float32]:
    """Return the weight `(z, y, x)` of each voxel of an input window in the Gaussian blend.

    1e-6 + exp(-d^2 / (2 0.2^2)), where d is the distance to the centre of the window, 1 at its faces (as in the
    inference of superhuman affinities). This is divided by the sum over all windows that contain the voxel. Windows
    continue beyond the faces of the volume, so the weights are the same for all windows and sum to 1 at every voxel.
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
    """Return the block shape rounded up to whole tiles, so that no tile is computed twice."""
    return triple([-(-size // width) * width for size, width in zip(block, tile, strict=True)])


def reflected_indices(begin: int, end: int, size: int) -> NDArray[np.int64]:
    """Return the coordinates to read for `begin` to `end` on an axis of `size` voxels, reflected at both ends.

    The end voxel is not repeated (... 2 1 0 1 2 ...). A wide window is reflected several times.
    """
    if size == 1:
        return np.zeros(end - begin, np.int64)
    folded = np.arange(begin, end) % (2 * size - 2)
    return np.where(folded < size, folded, 2 * size - 2 - folded)


def box_of_windows(tiles: Sequence[Roi], context: Triple) -> Roi:
    """Return the smallest box that contains the input windows of some tiles. It may reach beyond the volume."""
    begin = [min(tile.begin[axis] for tile in tiles) - context[axis] for axis in range(3)]
    end = [max(tile.end[axis] for tile in tiles) + context[axis] for axis in range(3)]
    return Roi(begin, Coordinate(end) - Coordinate(begin))


def read_reflected(read: Callable[[Roi], NDArray[np.generic]], box: Roi, shape: Sequence[int]) -> NDArray[np.generic]:
    """Return the voxels of `box`, reflected outside of the volume of `shape`.

    `read(roi)` returns the voxels of a region inside the volume. It is called once.
    """
    indices = [reflected_indices(b, e, s) for b, e, s in zip(box.begin, box.end, shape, strict=True)]
    begin = [int(i.min()) for i in indices]
    voxels = read(Roi(begin, [int(i.max()) + 1 - b for i, b in zip(indices, begin, strict=True)]))
    for axis, (index, first) in enumerate(zip(indices, begin, strict=True)):
        if (np.diff(index) != 1).any():
            voxels = voxels.take(index - first, axis)
    return voxels

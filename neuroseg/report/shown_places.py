"""The segmented region -> a few places to show, spread over the region. The same run gives the same places."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.geometry import Triple, triple

# Edge of a crop along the axis of the smallest voxels.
CROP_VOXELS = 256
_PLACES = 3
# A cell is shown if its labelled share is at least this part of the highest share.
_FILLED = 0.5


def crop_shape(region: Roi, voxel_size_nm: Sequence[float]) -> Triple:
    """Return the shape of a crop with equal edges in nm, cut to the region."""
    edge_nm = CROP_VOXELS * min(voxel_size_nm)
    sizes = zip(region.shape, voxel_size_nm, strict=True)
    return triple([max(1, min(int(length), round(edge_nm / size))) for length, size in sizes])


def crop_around(centre: Sequence[int], shape: Triple, region: Roi) -> Roi:
    """Return the crop of `shape` around a voxel, moved into the region."""
    axes = zip(centre, shape, region.begin, region.end, strict=True)
    return Roi([max(int(low), min(c - size // 2, int(high) - size)) for c, size, low, high in axes], shape)


def filled_cells(labelled: NDArray[np.bool_], cell: Triple) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the centres `(n, 3)` of the cells of an array `(z, y, x)`, in voxels, and the labelled share of each."""
    counts = labelled.astype(np.int64)
    voxels = np.ones(1)
    centres = []
    for axis, width in enumerate(cell):
        starts = np.arange(0, labelled.shape[axis], width)
        ends = np.minimum(starts + width, labelled.shape[axis])
        counts = np.add.reduceat(counts, starts, axis=axis)
        voxels = np.multiply.outer(voxels, ends - starts)
        centres.append((starts + ends) / 2)
    grid = np.stack(np.meshgrid(*centres, indexing="ij"), axis=-1).reshape(-1, 3)
    return grid, (counts / voxels[0]).ravel()


def spread_places(
    centres: NDArray[np.float64], shares: NDArray[np.float64], middle: Sequence[float] | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return up to three of the `centres` `(n, 3)`: one near the middle, then those farthest from the ones before.

    Only cells whose labelled share is at least half of the highest share are considered. Empty if nothing is labelled.
    """
    candidates: NDArray[np.float64] = centres[(shares > 0) & (shares >= _FILLED * shares.max(initial=0))]
    if not len(candidates):
        return candidates
    chosen = [int(np.linalg.norm(candidates - np.asarray(middle), axis=1).argmin())]
    distances = np.full(len(candidates), np.inf)
    while len(chosen) < min(_PLACES, len(candidates)):
        distances = np.minimum(distances, np.linalg.norm(candidates - candidates[chosen[-1]], axis=1))
        chosen.append(int(distances.argmax()))
    places: NDArray[np.float64] = candidates[chosen]
    return places

"""A mask -> exact squared distances to it, independent of the crop.

The transform is separable and uses relative offsets in a window. Voxels farther than the reach do not affect a value,
so a crop with that halo gives the same bytes as the whole volume. Transforms of libraries (edt, scipy) run over whole
axes, and their last bit depends on the crop for some voxel sizes. Squared distances are whole multiples of 1/16 of a
squared xy voxel, stored as float32, which represents their sums exactly.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuroseg.fragments.settings import BasinSettings
from neuroseg.kernels import compiled

UNITS_PER_SQUARED_VOXEL = 16


def squared_distances(mask: NDArray[np.bool_], settings: BasinSettings) -> NDArray[np.float32]:
    """Return the squared distance of each voxel to the nearest true voxel of `mask` `(z, y, x)`.

    Whole numbers (float32) in units of 1/16 of a squared xy voxel, clipped at the reach. Voxels outside the array count
    as false.
    """
    limit = np.float32(round(settings.reach**2 * UNITS_PER_SQUARED_VOXEL))
    weights = [np.float32(round(edge**2 * UNITS_PER_SQUARED_VOXEL)) for edge in settings.voxel_size]
    reach = settings.distance_reach_voxels
    distances: NDArray[np.float32] = _along_rows(mask, weights[2], reach[2], limit)
    distances = _along_columns(distances, weights[1], reach[1], limit)
    if 0 in settings.axes:
        swapped = np.ascontiguousarray(distances.transpose(1, 0, 2))
        distances = np.ascontiguousarray(_along_columns(swapped, weights[0], reach[0], limit).transpose(1, 0, 2))
    return distances


@compiled
def _along_rows(mask, weight, reach, limit):  # type: ignore[no-untyped-def]
    """Squared distance to the nearest true voxel of the row within `reach`, by a scan in each direction."""
    depth, height, width = mask.shape
    out = np.empty(mask.shape, np.float32)
    far = reach + 1
    for z in range(depth):
        for y in range(height):
            steps = far
            for x in range(width):
                steps = 0 if mask[z, y, x] else min(steps + 1, far)
                out[z, y, x] = steps
            steps = far
            for x in range(width - 1, -1, -1):
                steps = 0 if mask[z, y, x] else min(steps + 1, far)
                nearest = min(np.float32(steps), out[z, y, x])
                squared = weight * nearest * nearest
                out[z, y, x] = squared if nearest <= reach and squared < limit else limit
    return out


@compiled
def _along_columns(distances, weight, reach, limit):  # type: ignore[no-untyped-def]
    """Minimum over y of distance + weight * step^2. The inner loop runs along x and is vectorised."""
    depth, height, width = distances.shape
    out = distances.copy()
    for z in range(depth):
        for step in range(1, reach + 1):
            cost = weight * np.float32(step * step)
            if cost >= limit:
                break
            for y in range(height - step):
                for x in range(width):
                    through = distances[z, y + step, x] + cost
                    out[z, y, x] = through if through < out[z, y, x] else out[z, y, x]
            for y in range(step, height):
                for x in range(width):
                    through = distances[z, y - step, x] + cost
                    out[z, y, x] = through if through < out[z, y, x] else out[z, y, x]
    return out

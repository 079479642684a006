"""Inside or outside -> squared distance to the other kind, exact and the same for every crop.

A separable transform over *relative* offsets within a window: what lies farther than the reach cannot change a value,
so a crop with that halo gives the bytes of the whole volume. Library transforms (edt, scipy) run from face to face and
are not crop-invariant in the last bit at some voxel sizes. Squared distances are whole multiples of 1/16 of a squared
xy voxel, held in float32, where sums of such numbers are exact.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuroseg.fragments.settings import BasinSettings
from neuroseg.kernels import compiled

UNITS_PER_SQUARED_VOXEL = 16


def squared_distances(mask: NDArray[np.bool_], settings: BasinSettings) -> NDArray[np.float32]:
    """Return, per voxel of `mask` `(z, y, x)`, the squared distance to the nearest voxel where `mask` is true.

    Float32 whole numbers in 1/16 of a squared xy voxel, clipped at the reach. Past the array there is nothing.
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
    """Nearest true voxel within `reach` of each voxel of its row: a scan from the left, then one from the right."""
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
    """Minimum over y of distance + weight * step^2; the inner loop runs along x and vectorises."""
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

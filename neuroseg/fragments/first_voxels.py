"""Labels of one block -> names that are unique in the volume, without counters shared between blocks."""

from __future__ import annotations

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.geometry import Triple
from neuroseg.kernels import compiled


def named_by_first_voxel(
    labels: NDArray[np.uint64], count: int, write_roi: Roi, volume_shape: Triple
) -> NDArray[np.uint64]:
    """Return `labels` `(z, y, x)` of `write_roi`, 0 to `count`, replaced by the linear index of their first voxel + 1.

    Only one block writes a voxel and uses its index. So names are unique, and do not change if the block is retried.
    0 stays 0.
    """
    origin, extent = np.array(write_roi.begin, np.int64), np.array(volume_shape, np.int64)
    named: NDArray[np.uint64] = _named(labels, np.zeros(count + 1, np.uint64), origin, extent)
    return named


@compiled
def _named(labels, names, origin, volume_shape):  # type: ignore[no-untyped-def]
    out = np.zeros(labels.shape, np.uint64)
    depth, height, width = labels.shape
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                label = labels[z, y, x]
                if label == 0:
                    continue
                if names[label] == 0:
                    index = ((z + origin[0]) * volume_shape[1] + y + origin[1]) * volume_shape[2] + x + origin[2]
                    names[label] = np.uint64(index + 1)
                out[z, y, x] = names[label]
    return out

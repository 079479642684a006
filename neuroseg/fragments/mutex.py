"""Affinities -> fragments of one block by the mutex watershed; for comparison.

What differs from distance basins: a fragment ends where the block ends, so the result depends on the blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neuroseg.geometry import Triple


def mutex_watershed(
    affinities: NDArray[np.uint8], offsets: Sequence[Triple], attractive: Sequence[int]
) -> tuple[NDArray[np.uint64], int]:
    """Return labels `(z, y, x)` uint64 of affinities `(c, z, y, x)` uint8, and the largest of them.

    Channels in `attractive` (the direct neighbours) join with their affinity a; every channel holds apart with 1 - a.
    Links are taken strongest first. Wolf et al. 2018, where direct neighbours do not hold apart: without that a volume
    that has no other channels would be one fragment. It leaves the voxels of boundaries single: those are flooded from
    the others, strongest links first. Where all are single they are one fragment.
    """
    if not affinities[0].size:
        return np.zeros(affinities.shape[1:], np.uint64), 0
    from bioimage_cpp import segmentation

    links = affinities.astype(np.float32)
    weights = np.concatenate([links[list(attractive)], 255 - links])
    steps = [*(offsets[channel] for channel in attractive), *offsets]
    labels: NDArray[np.uint64] = segmentation.mutex_watershed(weights, steps, len(attractive))
    single = np.bincount(labels.ravel()) == 1
    if single[labels].all():
        return np.ones_like(labels), 1
    seeds = np.where(single[labels], np.uint64(0), labels)
    flooded: NDArray[np.uint64] = segmentation.watershed(-links[list(attractive)].mean(axis=0), seeds)
    return flooded, int(flooded.max())

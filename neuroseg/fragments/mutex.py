"""Affinities -> fragments of one block by the mutex watershed, for comparison.

Unlike distance basins, fragments end at block borders, so the result depends on the blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neuroseg.geometry import Triple


def mutex_watershed(
    affinities: NDArray[np.uint8], offsets: Sequence[Triple], attractive: Sequence[int]
) -> tuple[NDArray[np.uint64], int]:
    """Return labels `(z, y, x)` uint64 of affinities `(c, z, y, x)` uint8, and the largest label.

    Channels in `attractive` (direct neighbours) attract with their affinity a. Every channel repels with 1 - a. Links
    are processed by descending strength. In Wolf et al. 2018 direct neighbours do not repel, but then a volume without
    other channels would be one fragment.

    Fragments of one voxel, at boundaries, are flooded from the other fragments. If all fragments have one voxel, they
    become one fragment.
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

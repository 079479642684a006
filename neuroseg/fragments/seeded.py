"""Affinities -> fragments of one block by a seeded watershed of each section, for comparison.

Unlike distance basins, fragments end at block borders, so the result depends on the blocks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuroseg.fragments.heights import mean_affinity
from neuroseg.geometry import Triple

# Context around the block. Distances to a boundary are rarely longer, so neighbouring blocks mostly agree.
CONTEXT_VOXELS: Triple = (0, 16, 16)

_IN_SECTION = (1, 2)


def seeded_watershed(
    affinities: NDArray[np.uint8], channels: Triple, links: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], int]:
    """Return labels `(z, y, x)` uint64, 1..n, of affinities `(c, z, y, x)` uint8, and n.

    In each section, the boundary is 1 - the mean of the affinities along y and x. Seeds are the local maxima of the
    distance to voxels with a boundary above one half. The watershed floods the boundary map. Every voxel gets a label.
    A section that is entirely inside or entirely boundary is one fragment. `channels` and `links` as in
    heights.mean_affinity. This is the method of the pipelines around waterz, implemented with scikit-image.
    """
    means, inside = mean_affinity(affinities, channels, links, _IN_SECTION)
    labels = np.empty(means.shape, np.uint64)
    count = 0
    for z in range(len(labels)):
        section = _section_labels(means[z], inside[z])
        labels[z] = section + np.uint64(count)
        count += int(section.max(initial=0))
    return labels, count


def _section_labels(means: NDArray[np.int16], inside: NDArray[np.bool_]) -> NDArray[np.uint64]:
    from scipy import ndimage
    from skimage.morphology import local_maxima
    from skimage.segmentation import watershed

    if inside.all() or not inside.any():
        return np.ones(inside.shape, np.uint64)
    seeds, _ = ndimage.label(local_maxima(ndimage.distance_transform_edt(inside), connectivity=1))
    flooded: NDArray[np.uint64] = watershed(-means, seeds).astype(np.uint64)
    return flooded

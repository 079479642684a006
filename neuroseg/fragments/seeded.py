"""Affinities -> fragments of one block by a seeded watershed of each section, as in the paper; for comparison.

What differs from distance basins: a section is cut where the block ends, so the result depends on the blocks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuroseg.fragments.heights import mean_affinity
from neuroseg.geometry import Triple

# Around the block: distances to the nearest boundary are rarely longer, so that blocks agree on most of a face.
CONTEXT_VOXELS: Triple = (0, 16, 16)

_IN_SECTION = (1, 2)


def seeded_watershed(
    affinities: NDArray[np.uint8], channels: Triple, links: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], int]:
    """Return labels `(z, y, x)` uint64, 1..n, of affinities `(c, z, y, x)` uint8, and n.

    Per section: the boundary is 1 - the mean of the affinities along y and x; the regional maxima of the distance to
    a boundary above one half are the seeds, from which the boundary map is flooded. No voxel is left without a label;
    a section without any maximum (black, or without a boundary) is one fragment. `channels` and `links` as in
    heights.mean_affinity. The recipe of the pipelines built around waterz, with scikit-image for its parts.
    """
    means, inside = mean_affinity(affinities, channels, links, _IN_SECTION)
    labels = np.empty(means.shape, np.uint64)
    count = 0
    for z in range(len(labels)):
        section = _section_labels(means[z], inside[z])
        labels[z] = section + np.uint64(count)
        count += int(section.max(initial=0))
    return labels, count


def _section_labels(means: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.uint64]:
    from scipy import ndimage
    from skimage.morphology import local_maxima
    from skimage.segmentation import watershed

    if inside.all() or not inside.any():
        return np.ones(inside.shape, np.uint64)
    seeds, _ = ndimage.label(local_maxima(ndimage.distance_transform_edt(inside), connectivity=1))
    flooded: NDArray[np.uint64] = watershed(-means, seeds).astype(np.uint64)
    return flooded

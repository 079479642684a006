"""Affinities -> fragments of one block by the distance-transform watershed of each section from elf, for comparison.

Fragments end at block borders, as in seeded.py.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuroseg.geometry import Triple

# Values of the published multicut (Huang et al., IEEE TMI 2022). Boundary probabilities are in [0, 1], sizes in pixels.
_THRESHOLD = 0.25
_SIGMA_SEEDS = 2.0
_SIGMA_WEIGHTS = 2.0
_MIN_SIZE = 100
_ALPHA = 0.9


def distance_watershed(
    affinities: NDArray[np.uint8], channels: Triple, links: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], int]:
    """Return labels `(z, y, x)` uint64, 1..n, of affinities `(c, z, y, x)` uint8, and n.

    In each section, the boundary is the maximum of 1 - affinity along y and along x. Seeds are the maxima of the
    smoothed distance to voxels with a boundary above 0.25. The watershed floods 0.9 times the smoothed boundary plus
    0.1 times the inverted distance. Fragments of fewer than 100 pixels are merged into their neighbours. Every voxel
    gets a label. A section that is entirely inside or entirely boundary is one fragment. `channels` and `links` as in
    heights.heights. Algorithm of Beier et al. ("Multicut brings automated neurite segmentation closer to human
    performance", Nature Methods 2017), implemented by elf.
    """
    boundary = boundary_map(affinities, channels, links)
    labels = np.empty(boundary.shape, np.uint64)
    count = 0
    for z, section in enumerate(boundary):
        labels[z] = _section_labels(section) + np.uint64(count)
        count = int(labels[z].max(initial=count))
    return labels, count


def boundary_map(affinities: NDArray[np.uint8], channels: Triple, links: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the maximum of 1 - affinity along y and along x, `(z, y, x)` float32 in [0, 1]. 0 without a link."""
    boundary = np.zeros(affinities.shape[1:], np.float32)
    for axis in (1, 2):
        places = links[axis][: boundary.shape[axis]]
        apart = (255 - affinities[channels[axis]]).take(np.maximum(places, 0), axis=axis)
        linked = (places >= 0).reshape([-1 if a == axis else 1 for a in range(3)])
        np.maximum(boundary, np.where(linked, apart, 0) / np.float32(255), out=boundary)
    return boundary


def _section_labels(boundary: NDArray[np.float32]) -> NDArray[np.uint64]:
    from elf.segmentation.watershed import distance_transform_watershed

    inside = boundary <= _THRESHOLD
    if inside.all() or not inside.any():
        return np.ones(boundary.shape, np.uint64)
    labels: NDArray[np.uint64] = distance_transform_watershed(
        boundary, _THRESHOLD, _SIGMA_SEEDS, sigma_weights=_SIGMA_WEIGHTS, min_size=_MIN_SIZE, alpha=_ALPHA
    )[0]
    # Labels of removed small fragments are missing: number the others without gaps.
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.uint64) + np.uint64(1)

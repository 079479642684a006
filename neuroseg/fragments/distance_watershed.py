"""Affinities -> fragments of one block by elf's distance-transform watershed of each section; for comparison.

As in seeded.py, a section is cut where the block ends.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuroseg.geometry import Triple

# Of the published multicut (Huang et al., IEEE TMI 2022); the boundary probability is in [0, 1], sizes are in pixels.
_THRESHOLD = 0.25
_SIGMA_SEEDS = 2.0
_SIGMA_WEIGHTS = 2.0
_MIN_SIZE = 100
_ALPHA = 0.9


def distance_watershed(
    affinities: NDArray[np.uint8], channels: Triple, links: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], int]:
    """Return labels `(z, y, x)` uint64, 1..n, of affinities `(c, z, y, x)` uint8, and n.

    Per section: the boundary is the larger of 1 - affinity along y and along x; the maxima of the smoothed distance to
    a boundary above a quarter are the seeds, from which the smoothed boundary, mixed with a tenth of the inverted
    distance, is flooded; fragments below 100 pixels are given to their neighbours. No voxel is left without a label; a
    section without any boundary, or with nothing else, is one fragment. `channels` and `links` as in heights.heights.
    The algorithm of Beier et al. ("Multicut brings automated neurite segmentation closer to human performance", Nature
    Methods 2017), as elf has it.
    """
    boundary = boundary_map(affinities, channels, links)
    labels = np.empty(boundary.shape, np.uint64)
    count = 0
    for z, section in enumerate(boundary):
        labels[z] = _section_labels(section) + np.uint64(count)
        count = int(labels[z].max(initial=count))
    return labels, count


def boundary_map(affinities: NDArray[np.uint8], channels: Triple, links: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the larger of 1 - affinity along y and along x, `(z, y, x)` float32 in [0, 1]; without a link it is 0."""
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
    # Those that were too small leave gaps in the numbers.
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.uint64) + np.uint64(1)

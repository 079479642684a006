"""Table of segments -> the segments that end inside the segmented region, each with a weight in bits.

A suspect touches no face of the region, is large and is long. Such a segment is often part of a neurite that was cut.
"""

from __future__ import annotations

import numpy as np
from funlib.geometry import Roi

from neuroseg.evaluation.suspect import joining_bits
from neuroseg.geometry import Nanometres
from neuroseg.tables import Table

# Smaller segments are not listed.
LEAST_VOXELS = 1000
# Length of a segment: diagonal of its bounding box / cube root of its volume. A cube has 1.7, a square rod 8 times
# as long as wide 4.1. The factor of the weight is 0 at this length and rises to 1 for longer segments.
LEAST_LENGTH = 4.0


def end_suspects(segments: Table, roi: Roi, voxel_size_nm: Nanometres) -> Table:
    """Return the suspects, with the columns `segment`, `bits` and `length`, by ascending segment.

    `segments` is the table of segmentation/segments.py. `roi` is the segmented region in voxels. The weight is the
    change of the VOI if the segment and another one of its size are one neuron, times 1 - LEAST_LENGTH / length.
    """
    voxels = segments["voxels"].astype(np.int64)
    begin, end = (np.stack([segments[f"{name}_{axis}"] for axis in "zyx"], axis=1).astype(np.int64)
                  for name in ("begin", "end"))  # fmt: skip
    size = np.array(voxel_size_nm)
    diagonal = np.sqrt((((end - begin) * size) ** 2).sum(axis=1))
    length = diagonal / np.cbrt(np.maximum(voxels, 1) * size.prod())
    inside = ((begin > np.array(roi.begin)) & (end < np.array(roi.end))).all(axis=1)
    kept = np.flatnonzero(inside & (voxels >= LEAST_VOXELS) & (length > LEAST_LENGTH))
    bits = joining_bits(voxels[kept], voxels[kept], int(voxels.sum())) * (1 - LEAST_LENGTH / length[kept])
    return {"segment": segments["segment"][kept], "bits": bits, "length": length[kept]}

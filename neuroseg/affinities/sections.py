"""Raw -> raw whose sections are equally bright and contrasty: for series with jumps between sections.

Sections are compared by exact histograms of all their voxels, so that no block shape and no region of interest can
change what a voxel becomes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GREY_VALUES = 256


def section_histograms(raw: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return how often each grey value occurs in each section of `(z, y, x)`: `(z, 256)`."""
    counts = [np.bincount(section.ravel(), minlength=GREY_VALUES) for section in raw]
    return np.array(counts, np.uint64).reshape(len(raw), GREY_VALUES)


def section_lookup(histograms: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Return what each grey value of each section becomes, `(z, 256)`, from the histograms of all sections.

    Mean and standard deviation of each section move to their medians over the sections; values are rounded and clipped
    to 1 ... 255. Zero means "no data" (padding, a missing section): it counts for nothing and stays zero. A section
    without contrast is left as it is.
    """
    values = np.arange(GREY_VALUES, dtype=np.float64)
    counts = histograms.astype(np.float64)
    counts[:, 0] = 0
    voxels = np.maximum(counts.sum(axis=1), 1)
    means = counts @ values / voxels
    deviations = np.sqrt(np.maximum(counts @ values**2 / voxels - means**2, 0))
    usable = deviations > 0
    lookup = np.tile(np.arange(GREY_VALUES, dtype=np.uint8), (len(histograms), 1))
    if not usable.any():
        return lookup
    gains = np.median(deviations[usable]) / deviations[usable]
    moved = (values - means[usable, None]) * gains[:, None] + np.median(means[usable])
    lookup[usable, 1:] = np.clip(np.rint(moved), 1, GREY_VALUES - 1).astype(np.uint8)[:, 1:]
    return lookup


def normalised(raw: NDArray[np.uint8], lookup: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return `(z, y, x)` with each section's values replaced by what its row of `lookup` `(z, 256)` says."""
    out = np.empty_like(raw)
    for section, row, target in zip(raw, lookup, out, strict=True):
        np.take(row, section, out=target)
    return out

"""Raw -> raw with equal brightness and contrast in all sections, for volumes with jumps between sections.

The histograms contain all voxels of a section. So the result does not depend on the block shape or on the region.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GREY_VALUES = 256


def section_histograms(raw: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return counts `(z, 256)` of the grey values in each section of `raw` `(z, y, x)`."""
    counts = [np.bincount(section.ravel(), minlength=GREY_VALUES) for section in raw]
    return np.array(counts, np.uint64).reshape(len(raw), GREY_VALUES)


def section_lookup(histograms: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Return the new value of each grey value in each section, `(z, 256)`, from the histograms of all sections.

    The mean and standard deviation of each section become the medians over all sections. Values are rounded and clipped
    to 1 to 255. Zero means "no data" (padding, a missing section): it is not counted and stays zero. A section without
    contrast is not changed.
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
    """Return `raw` `(z, y, x)` with the values of each section replaced by its row of `lookup` `(z, 256)`."""
    out = np.empty_like(raw)
    for section, row, target in zip(raw, lookup, out, strict=True):
        np.take(row, section, out=target)
    return out

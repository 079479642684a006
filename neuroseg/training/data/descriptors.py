"""Local shape descriptors: labels -> ten smooth numbers per voxel that describe the shape of its object nearby.

After Sheridan et al., "Local shape descriptors for neuron segmentation" (Nature Methods, 2022). Unlike in the paper,
offsets and correlations keep their sign (range [-1, 1]), so a flip only changes signs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

CHANNELS = 10
_PAIRS = ((0, 1), (0, 2), (1, 2))
_LEAST_VARIANCE = 1e-3


def shape_descriptors(labels: NDArray[np.integer], sigma_voxels: tuple[float, float, float]) -> NDArray[np.float32]:
    """Return the descriptors `(10, z, y, x)` float32 of `labels`. They are 0 for label 0.

    Each voxel is described by the voxels of the same label in a Gaussian window of `sigma_voxels`. Channels: offset to
    the centre of mass in units of sigma (z, y, x), variance in units of sigma^2 (z, y, x), correlation of zy, zx, yx,
    and the share of the window that the label fills. Outside the volume, the window is empty.
    """
    out = np.zeros((CHANNELS, *labels.shape), np.float32)
    sigma = np.asarray(sigma_voxels, np.float32)
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        mask = labels[box] == label
        described = _describe(mask, sigma)
        out[(slice(None), *box)][:, mask] = described[:, mask]
    return out


def _describe(mask: NDArray[np.bool_], sigma: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the ten descriptors of one object for all voxels of its bounding box."""

    def blurred(values: NDArray[np.float32]) -> NDArray[np.float32]:
        smooth: NDArray[np.float32] = ndimage.gaussian_filter(values, sigma, mode="constant", truncate=2.5)
        return smooth

    weight = mask.astype(np.float32)
    grids = [g.astype(np.float32) for g in np.meshgrid(*map(np.arange, mask.shape), indexing="ij", sparse=True)]
    mass = np.maximum(blurred(weight), 1e-6)
    means = [blurred(weight * grid) / mass for grid in grids]
    variances = [
        np.maximum(blurred(weight * grid * grid) / mass - mean * mean, _LEAST_VARIANCE)
        for grid, mean in zip(grids, means, strict=True)
    ]
    out = np.empty((CHANNELS, *mask.shape), np.float32)
    for axis in range(3):
        out[axis] = (means[axis] - grids[axis]) / sigma[axis]
        out[3 + axis] = variances[axis] / sigma[axis] ** 2
    for index, (a, b) in enumerate(_PAIRS):
        covariance = blurred(weight * grids[a] * grids[b]) / mass - means[a] * means[b]
        out[6 + index] = np.clip(covariance / np.sqrt(variances[a] * variances[b]), -1.0, 1.0)
    out[9] = mass
    return out

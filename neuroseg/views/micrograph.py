"""Labels and neurites -> grey values as of a focused-ion-beam microscope at 10 nm.

Grey levels, edge widths and noise follow the FIB-25 volume of the fly's medulla (Takemura et al., PNAS 2015).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from neuroseg.views.organelles import mitochondrion_depth, vesicle_shade
from neuroseg.views.smooth import smooth_noise
from neuroseg.views.territories import Float, Samples

CYTOPLASM, CYTOPLASM_SPREAD = 166.0, 24.0
MEMBRANE = 83.0
MITOCHONDRION = 76.0
# A membrane extends this far into each of the two neurites. With the blur it is about 3 voxels thick.
MEMBRANE_REACH_VOXELS, MEMBRANE_REACH_SPREAD = 1.8, 0.4
BLUR_VOXELS = 1.1
NOISE = 5.5


def micrograph(labels: NDArray[np.uint32], samples: Samples, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the raw volume `(z, y, x)`, 31 to 217, of neurites `labels` 1..N, with membranes on their borders."""
    distance = border_distance(labels)
    raw = _cytoplasm(labels, rng)
    raw += 45 * vesicle_shade(distance, labels.size // 800, rng)
    # Mitochondria end before the membrane: a thin light gap remains, as in tissue.
    inside = np.minimum(mitochondrion_depth(labels, samples, rng), distance - 4)
    _blend(raw, _mitochondria(labels.shape, rng), np.clip(inside + 0.5, 0, 1))
    reach = MEMBRANE_REACH_VOXELS + MEMBRANE_REACH_SPREAD * smooth_noise(labels.shape, 10, rng)
    darkness = MEMBRANE + 8 * smooth_noise(labels.shape, 14, rng)
    _blend(raw, darkness, np.clip(reach - distance + 0.5, 0, 1))
    return _recorded(raw, rng)


def border_distance(labels: NDArray[np.uint32]) -> Float:
    """Return the distance of each voxel, in voxels, to the nearest face between two labels. 0.5 next to a face.

    Faces of the volume are not borders. If there is only one label, every distance is the diagonal of the volume.
    """
    border = np.zeros(labels.shape, bool)
    for axis in range(3):
        moved, edges = np.moveaxis(labels, axis, 0), np.moveaxis(border, axis, 0)
        differs = moved[1:] != moved[:-1]
        edges[1:] |= differs
        edges[:-1] |= differs
    if not border.any():
        return np.full(labels.shape, np.linalg.norm(labels.shape), np.float32)
    distance: Float = ndimage.distance_transform_edt(~border).astype(np.float32) + np.float32(0.5)
    return distance


def _cytoplasm(labels: NDArray[np.uint32], rng: np.random.Generator) -> Float:
    """Return grey values of cytoplasm. Each neurite has its own brightness and strength of texture."""
    count = int(labels.max(initial=0)) + 1
    # Skewed: most neurites are bright, a few are dark.
    levels = CYTOPLASM + CYTOPLASM_SPREAD * (1 - rng.gamma(2.0, 0.6, count))
    strengths = rng.uniform(0.6, 1.5, count)
    texture = 9 * smooth_noise(labels.shape, 2.2, rng) + 6 * smooth_noise(labels.shape, 5, rng)
    grey: Float = texture * strengths.astype(np.float32)[labels] + levels.astype(np.float32)[labels]
    return grey


def _mitochondria(shape: tuple[int, ...], rng: np.random.Generator) -> Float:
    """Return grey values of mitochondria: dark, with faint bands (cristae) where a field crosses zero."""
    bands = np.abs(smooth_noise(shape, 5, rng))
    grey: Float = 8 * bands + 4 * smooth_noise(shape, 2.5, rng) + np.float32(MITOCHONDRION - 6)
    return grey


def _blend(raw: Float, other: Float, weight: Float) -> None:
    """Move `raw` towards `other` by `weight`, 0 to 1."""
    raw += weight * (other - raw)


def _recorded(raw: Float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return `raw` as the microscope records it: blurred, with drift of brightness and noise, rounded to uint8."""
    seen = ndimage.gaussian_filter(raw, BLUR_VOXELS, truncate=3.0)
    seen += 4 * smooth_noise(raw.shape, 70, rng)
    noise = rng.standard_normal(raw.shape, np.float32)
    # The noise is slightly correlated along the scan line.
    seen += NOISE * ndimage.convolve1d(noise, np.array([0.15, 0.95, 0.15]), axis=2)
    grey: NDArray[np.uint8] = np.clip(np.rint(seen), 31, 217).astype(np.uint8)
    return grey

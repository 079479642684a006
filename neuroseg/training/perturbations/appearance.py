"""Perturbations of grey values: `(raw, rng, strength) -> raw`. They move nothing.

Input and output are `(z, y, x)` float32 in [0, 1]. Strength 0 changes nothing, strength 1 is the published range (Huang
et al., IEEE TMI 2022).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Float = NDArray[np.float32]

_KERNELS = (3, 5, 7, 9)
_BOXES, _PUBLISHED_VOXELS = (60, 100), 18 * 160 * 160
_BOX_Z, _BOX_YX = (5, 10), (10, 20)
_STRONG_SIGMA = (2.0, 5.0)
_MIXED_SHARE = (0.1, 0.4)
_FULL_OF_MISSING = 0.2 / 0.7


def intensity(raw: Float, rng: np.random.Generator, strength: float = 1.0) -> Float:
    """Return `raw` with random contrast x(1 +- 0.05), brightness +- 0.05 and gamma 2^(-1 to 1).

    Drawn for each section in three of four cases, otherwise once for the whole crop.
    """
    count = len(raw) if rng.uniform() < 0.75 else 1

    def drawn(reach: float) -> Float:
        return rng.uniform(-reach * strength, reach * strength, (count, 1, 1)).astype(np.float32)

    changed = np.clip(raw * (1 + drawn(0.05)) + drawn(0.05), 0.0, 1.0)
    out: Float = changed ** np.exp2(drawn(1.0))
    return out


def noise(raw: Float, rng: np.random.Generator, strength: float = 1.0) -> Float:
    """Return `raw` with Gaussian noise of sigma 0.01 to 0.2."""
    sigma = np.float32(rng.uniform(0.01, 0.2) * strength)
    out: Float = np.clip(raw + rng.standard_normal(raw.shape, np.float32) * sigma, 0.0, 1.0)
    return out


def blur(raw: Float, rng: np.random.Generator, strength: float = 1.0) -> Float:
    """Return `raw` with a random Gaussian blur for each section: kernel 3 to 9, sigma 0 to 2."""
    return np.stack(
        [_blurred(section, rng.uniform(0.0, 2.0) * strength, int(rng.choice(_KERNELS)) // 2) for section in raw]
    )


def strong_blur(raw: Float, rng: np.random.Generator, strength: float = 1.0) -> Float:
    """Return `raw` with one to three sections out of focus (sigma 2 to 5)."""
    out = raw.copy()
    for section in _some_sections(len(raw), rng, 3):
        sigma = rng.uniform(*_STRONG_SIGMA) * strength
        out[section] = _blurred(raw[section], sigma, round(3 * sigma) or 1)
    return out


def _blurred(section: Float, sigma: float, radius: int) -> Float:
    if sigma < 1e-3:
        return section
    blurred: Float = ndimage.gaussian_filter(section, sigma, radius=radius)
    return blurred


def cutout(raw: Float, rng: np.random.Generator, strength: float = 1.0) -> Float:
    """Return `raw` with black boxes of one size: 5 to 10 sections, 10 to 20 voxels along y and x.

    The published crop of 18 x 160 x 160 voxels contains 60 to 100 boxes. Other crops contain a number in proportion to
    their voxels.
    """
    out = raw.copy()
    share = strength * raw.size / _PUBLISHED_VOXELS
    wanted = (rng.integers(_BOX_Z[0], _BOX_Z[1] + 1), *rng.integers(_BOX_YX[0], _BOX_YX[1] + 1, 2))
    size = [min(int(width), length) for width, length in zip(wanted, raw.shape, strict=True)]
    for _ in range(math.ceil(rng.integers(_BOXES[0], _BOXES[1] + 1) * share)):
        corner = [rng.integers(length - width + 1) for width, length in zip(size, raw.shape, strict=True)]
        out[tuple(slice(low, low + width) for low, width in zip(corner, size, strict=True))] = 0.0
    return out


def missing(raw: Float, rng: np.random.Generator, strength: float = 1.0) -> Float:
    """Return `raw` with one to three black sections: completely (two of seven cases) or on one side of a line."""
    out = raw.copy()
    for section in _some_sections(len(raw), rng, 3):
        if rng.uniform() < _FULL_OF_MISSING:
            gone = np.ones(raw.shape[1:], bool)
        else:
            gone = signed_distance(raw.shape[1:], rng) > 0
        out[section] = np.where(gone, raw[section] * np.float32(1 - strength), raw[section])
    return out


def sobel(raw: Float, rng: np.random.Generator, strength: float = 1.0) -> Float:
    """Return the magnitude of the gradient within each section, scaled to [0, 1]."""
    size = np.hypot(ndimage.sobel(raw, 1), ndimage.sobel(raw, 2))
    largest = np.float32(max(float(size.max()), 1e-6))
    out: Float = (raw + np.float32(strength) * (size / largest - raw)).astype(np.float32)
    return out


def mixup(raw: Float, other: Float, rng: np.random.Generator, strength: float = 1.0) -> Float:
    """Return `raw` with a share of 0.1 to 0.4 of another crop of the same shape."""
    share = np.float32(rng.uniform(*_MIXED_SHARE) * strength)
    out: Float = raw + share * (other - raw)
    return out


def signed_distance(shape: tuple[int, ...], rng: np.random.Generator) -> Float:
    """Return the signed distance in voxels of each `(y, x)` to a random straight line through the middle half."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = (np.arange(size, dtype=np.float32) - size * rng.uniform(0.25, 0.75) for size in shape)
    distance: Float = (np.sin(angle) * y[:, None] + np.cos(angle) * x[None, :]).astype(np.float32)
    return distance


def _some_sections(count: int, rng: np.random.Generator, most: int) -> list[int]:
    return sorted(int(z) for z in rng.choice(count, min(count, int(rng.integers(1, most + 1))), replace=False))

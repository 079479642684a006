"""Random changes of raw patches and their labels. All functions are pure and take a random generator."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from neuroseg.training.settings import AugmentationSettings

Float = NDArray[np.float32]


def deformation(
    shape: tuple[int, int, int],
    voxel_size_nm: tuple[float, float, float],
    settings: AugmentationSettings,
    rng: np.random.Generator,
) -> Float:
    """Return the source coordinate of each output voxel, `(3, z, y, x)` voxels relative to the patch's centre.

    Combines a rotation about a random axis (about z if orientations are in plane), a scaling, and a smooth elastic
    displacement. Rotations are in nm, so objects keep their shapes if voxels are anisotropic.
    """
    centre = (np.asarray(shape, np.float32) - 1) / 2
    grid = np.stack(np.meshgrid(*(np.arange(s, dtype=np.float32) for s in shape), indexing="ij"))
    grid -= centre[:, None, None, None]
    axis = rng.normal(size=3) if settings.orientations == "all" else np.array([1.0, 0.0, 0.0])
    edges = np.asarray(voxel_size_nm, float) / min(voxel_size_nm)
    turn = _rotation(axis, settings.rotation_degrees, rng) * (edges[None] / edges[:, None])
    matrix = turn / rng.uniform(*settings.scale_range)
    moved = np.tensordot(matrix.astype(np.float32), grid, axes=1)
    coarse_shape = [max(2, round(s / settings.elastic_spacing_voxels) + 1) for s in shape]
    sigma = settings.elastic_sigma_voxels * rng.uniform()
    coarse = rng.normal(0.0, sigma, (3, *coarse_shape)).astype(np.float32)
    zoom = [s / c for s, c in zip(shape, coarse_shape, strict=True)]
    displacement = np.stack([ndimage.zoom(c, zoom, order=1, grid_mode=True, mode="nearest") for c in coarse])
    deformed: Float = (moved + displacement).astype(np.float32)
    return deformed


def _rotation(axis: NDArray[np.float64], degrees: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the matrix of a random rotation of at most `degrees` about `axis` (Rodrigues' formula)."""
    axis = axis / np.linalg.norm(axis)
    angle = np.deg2rad(rng.uniform(-degrees, degrees))
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    matrix: NDArray[np.float64] = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return matrix


def with_intensity(raw: Float, rng: np.random.Generator) -> Float:
    """Return `raw` in [0, 1] with random contrast (x 0.7-1.3), brightness (+-0.15) and gamma (0.7-1.4)."""
    mean = np.float32(raw.mean())
    changed = (raw - mean) * np.float32(rng.uniform(0.7, 1.3)) + mean + np.float32(rng.uniform(-0.15, 0.15))
    out: Float = np.clip(changed, 0.0, 1.0) ** np.float32(np.exp(rng.uniform(np.log(0.7), np.log(1.4))))
    return out


def with_section_intensity(raw: Float, rng: np.random.Generator) -> Float:
    """Return `raw` with random contrast (x 0.9-1.1) and brightness (+-0.05) for each z section."""
    gains = rng.uniform(0.9, 1.1, (len(raw), 1, 1)).astype(np.float32)
    shifts = rng.uniform(-0.05, 0.05, (len(raw), 1, 1)).astype(np.float32)
    out: Float = np.clip(raw * gains + shifts, 0.0, 1.0)
    return out


def with_noise(raw: Float, rng: np.random.Generator) -> Float:
    """Return `raw` with Gaussian noise of sigma 0.01 to 0.1, clipped to [0, 1]."""
    noise = rng.standard_normal(raw.shape, np.float32) * np.float32(rng.uniform(0.01, 0.1))
    out: Float = np.clip(raw + noise, 0.0, 1.0)
    return out


def with_blur(raw: Float, rng: np.random.Generator) -> Float:
    """Return `raw` blurred by a Gaussian of sigma 0.3 to 1.2 voxels."""
    out: Float = ndimage.gaussian_filter(raw, rng.uniform(0.3, 1.2), truncate=3.0)
    return out


def with_missing_section(raw: Float, rng: np.random.Generator) -> Float:
    """Return `raw` with one black z section."""
    out = raw.copy()
    out[rng.integers(len(raw))] = 0.0
    return out


def augmented_intensities(raw: Float, settings: AugmentationSettings, rng: np.random.Generator) -> Float:
    """Return `raw` after the intensity augmentations. Each is applied with its probability."""
    steps = (
        (settings.blur, with_blur),
        (settings.intensity, with_intensity),
        (settings.sections, with_section_intensity),
        (settings.noise, with_noise),
        (settings.missing, with_missing_section),
    )
    for probability, step in steps:
        if rng.uniform() < probability:
            raw = step(raw, rng)
    return raw

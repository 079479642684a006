"""A shape and a seed -> a synthetic electron-microscopy volume with its true segmentation.

Use it for examples and tests without data. Neurites grow until they fill the volume, then a micrograph is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from neuroseg.errors import InputError
from neuroseg.views.components import connected_labels
from neuroseg.views.micrograph import micrograph
from neuroseg.views.neurites import grown_neurites
from neuroseg.views.smooth import smooth_noise
from neuroseg.views.territories import Samples, neurite_at_voxels

VOXEL_SIZE_NM = (10, 10, 10)
# Smaller components are artefacts of the diagram, not neurites.
MIN_NEURITE_VOXELS = 200
# (grain, amplitude) in voxels of the random displacements that make borders wavy.
WARPS = ((30.0, 5.0), (10.0, 0.8))


@dataclass(frozen=True)
class SyntheticVolume:
    """A raw volume `(z, y, x)` uint8 and its truth `(z, y, x)` uint32. Each id 1..N is one connected neurite."""

    raw: NDArray[np.uint8]
    labels: NDArray[np.uint32]
    voxel_size_nm: tuple[int, int, int] = VOXEL_SIZE_NM


def synthetic_volume(shape: tuple[int, int, int], seed: int) -> SyntheticVolume:
    """Return neuropil of `shape` voxels of 10 nm. The same shape and seed give the same bytes.

    Neurites of 8 to 45 voxels diameter fill the volume. Every voxel belongs to a neurite. Membranes lie on the borders.

    Raises:
        InputError: `shape` is not three positive lengths, or `seed` is negative.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(
            f"shape {tuple(shape)} is not three lengths of at least 1 voxel", hint="use for example (64, 64, 64)"
        )
    if seed < 0:
        raise InputError(f"seed {seed} is negative", hint="use 0 or a positive number")
    # One generator for each part: a change of one part does not change the random numbers of the others.
    growth, warping, imaging = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(3))
    samples, territory = grown_neurites(shape, growth)
    displacement = np.zeros((3, *shape), np.float32)
    for grain, amplitude in WARPS:
        for axis in range(3):
            displacement[axis] += amplitude * smooth_noise(shape, grain, warping)
    owners = neurite_at_voxels(territory, samples, displacement)
    labels = connected_labels(owners, MIN_NEURITE_VOXELS)
    return SyntheticVolume(micrograph(labels, _displaced(samples, displacement), imaging), labels)


def _displaced(samples: Samples, displacement: NDArray[np.float32]) -> Samples:
    """Return `samples` at their positions in the warped volume: voxel p shows the tissue at p + displacement."""
    nearest = np.clip(np.rint(samples.positions).astype(int), 0, np.array(displacement.shape[1:]) - 1)
    return replace(samples, positions=samples.positions - displacement[(slice(None), *nearest.T)].T)

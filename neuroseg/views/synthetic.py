"""A shape and a seed -> a synthetic electron-microscopy volume whose true segmentation is known.

For examples and self-checks without data: neurites grow, share the volume, and are drawn as a micrograph.
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
# Connected places smaller than this are splinters of the diagram, not neurites.
MIN_NEURITE_VOXELS = 200
# (grain, amplitude) in voxels of the displacements that make walls wavy.
WARPS = ((30.0, 5.0), (10.0, 0.8))


@dataclass(frozen=True)
class SyntheticVolume:
    """A raw volume `(z, y, x)` uint8 and its truth `(z, y, x)` uint32: ids 1..N, each one connected neurite."""

    raw: NDArray[np.uint8]
    labels: NDArray[np.uint32]
    voxel_size_nm: tuple[int, int, int] = VOXEL_SIZE_NM


def synthetic_volume(shape: tuple[int, int, int], seed: int) -> SyntheticVolume:
    """Return neuropil of `shape` voxels of 10 nm; the same shape and seed give the same bytes.

    Neurites 8 to 45 voxels thick fill the volume; every voxel belongs to one, membranes lie on their borders.

    Raises:
        InputError: `shape` is not three positive lengths, or `seed` is negative.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(f"shape {tuple(shape)} is not three lengths of at least 1 voxel; use for example (64, 64, 64)")
    if seed < 0:
        raise InputError(f"seed {seed} is negative; use 0 or more")
    # A generator for each part: a change in one does not move the others.
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
    """Return `samples` where the warped volume shows them: a voxel at p shows what grew at p + displacement."""
    nearest = np.clip(np.rint(samples.positions).astype(int), 0, np.array(displacement.shape[1:]) - 1)
    return replace(samples, positions=samples.positions - displacement[(slice(None), *nearest.T)].T)

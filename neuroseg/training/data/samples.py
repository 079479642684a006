"""Labelled volumes -> training samples. Sample i of a seed is the same in each process and after a resume."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from neuroseg.networks.orientations import orientations
from neuroseg.training.data.affinity_targets import UNLABELLED, affinity_targets, with_widened_borders
from neuroseg.training.data.augmentation import augmented_intensities, deformation
from neuroseg.training.data.descriptors import CHANNELS
from neuroseg.training.perturbations.draw import UNTURNED, perturbed
from neuroseg.training.settings import AugmentationSettings, TargetSettings


@dataclass(frozen=True)
class LabelledVolume:
    """Raw uint8 and labels `(z, y, x)`, with descriptors `(10, z, y, x)` if training uses them.

    Labels are 0 outside objects and UNLABELLED (affinity_targets.py) without annotation. `share`: share of all samples
    from this volume. None: a part of the rest, in proportion to its labelled voxels.
    """

    raw: NDArray[np.uint8]
    labels: NDArray[np.uint32]
    voxel_size_nm: tuple[float, float, float]
    descriptors: NDArray[np.floating] | None = None
    share: float | None = None


def sampling_shares(volumes: Sequence[LabelledVolume]) -> NDArray[np.float64]:
    """Return the share of the samples from each volume, `(n,)`. The shares add up to 1."""
    given = np.array([volume.share or 0.0 for volume in volumes])
    dividing = np.array([0.0 if volume.share else (volume.labels != UNLABELLED).sum() for volume in volumes])
    rest = dividing / (dividing.sum() or 1)
    shares: NDArray[np.float64] = given + (1 - given.sum()) * rest if rest.any() else given / given.sum()
    return shares


@dataclass(frozen=True)
class Patch:
    """A patch: raw in [0, 1], labels, and descriptors unless it was deformed."""

    raw: NDArray[np.float32]
    labels: NDArray[np.integer]
    descriptors: NDArray[np.float32] | None


class Samples:
    """A sequence of training samples. Item i is `{raw, targets, mask, descriptors, descriptor_mask}` as arrays.

    `raw` has `shape`. The other arrays are smaller by `margin` on each side, where the network lacks context.
    """

    def __init__(
        self,
        volumes: Sequence[LabelledVolume],
        *,
        shape: tuple[int, int, int],
        margin: tuple[int, int, int] = (0, 0, 0),
        count: int,
        seed: int,
        targets: TargetSettings,
        augmentation: AugmentationSettings,
        start: int = 0,
    ) -> None:
        self._volumes = list(volumes)
        self._shares = sampling_shares(self._volumes)
        self._inner = (slice(None), *(slice(m, s - m) for m, s in zip(margin, shape, strict=True)))
        self._shape, self._count, self._seed, self._start = shape, count, seed, start
        self._targets, self._augmentation = targets, augmentation
        self._orientations = orientations(augmentation.orientations)

    def __len__(self) -> int:
        return self._count - self._start

    def __getitem__(self, index: int) -> dict[str, NDArray[np.float32]]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        rng = np.random.default_rng([self._seed, self._start + index])
        volume = self._volumes[rng.choice(len(self._volumes), p=self._shares)]
        if rng.uniform() < self._augmentation.deform:
            patch = self._deformed_patch(volume, rng)
        else:
            patch = self._rigid_patch(volume, rng)
        return self._sample(patch, rng)

    def first(self, count: int) -> Samples:
        """Return the first `count` samples of the seed, independent of `start`. The volumes are shared."""
        part = copy.copy(self)
        part._start, part._count = 0, count
        return part

    def _another(self, rng: np.random.Generator) -> Callable[[], NDArray[np.float32]]:
        """Return a function that draws the raw of another patch."""
        return lambda: self._rigid_patch(self._volumes[rng.choice(len(self._volumes), p=self._shares)], rng).raw

    def _rigid_patch(self, volume: LabelledVolume, rng: np.random.Generator) -> Patch:
        orientation = self._orientations[rng.integers(len(self._orientations))]
        shape = orientation.source_shape(self._shape)
        corner = [rng.integers(size - width + 1) for size, width in zip(volume.raw.shape, shape, strict=True)]
        box = tuple(slice(low, low + width) for low, width in zip(corner, shape, strict=True))
        descriptors = volume.descriptors
        return Patch(
            orientation.apply(volume.raw[box]).astype(np.float32) / np.float32(255),
            orientation.apply(volume.labels[box]).astype(np.uint32),
            None if descriptors is None else orientation.apply_to_descriptors(descriptors[(slice(None), *box)]),
        )

    def _deformed_patch(self, volume: LabelledVolume, rng: np.random.Generator) -> Patch:
        orientation = self._orientations[rng.integers(len(self._orientations))]
        relative = deformation(orientation.source_shape(self._shape), volume.voxel_size_nm, self._augmentation, rng)
        coordinates = np.empty_like(relative)
        for axis, size in enumerate(volume.raw.shape):
            reach = np.abs(relative[axis]).max()
            low, high = min(reach, (size - 1) / 2), max(size - 1 - reach, (size - 1) / 2)
            coordinates[axis] = relative[axis] + np.float32(rng.uniform(low, high))
        raw = ndimage.map_coordinates(volume.raw, coordinates, np.float32, order=1, mode="mirror")
        labels = ndimage.map_coordinates(volume.labels, coordinates, order=0, mode="mirror")
        turned = orientation.apply(raw).astype(np.float32) / np.float32(255)
        return Patch(turned, orientation.apply(labels).astype(np.uint32), None)

    def _sample(self, patch: Patch, rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
        settings = self._targets
        perturbations = self._augmentation.perturbations
        raw = augmented_intensities(patch.raw, self._augmentation, rng)
        made = perturbed(raw, perturbations.names, rng, strength=perturbations.strength, other=self._another(rng))
        if made.displacement is not None or made.turn != UNTURNED:
            patch = Patch(made.raw, made.follow(patch.labels), None)
        raw = made.raw
        widened = with_widened_borders(
            patch.labels, axes=settings.border_axes, dilations=settings.border_dilations, sides=settings.border_sides
        )
        targets, mask = affinity_targets(widened, [*settings.offsets, *settings.auxiliary_offsets])
        sample = {"raw": raw[None], "targets": targets[self._inner], "mask": mask[self._inner]}
        if settings.descriptor_sigma_nm > 0:
            described = patch.descriptors is not None
            empty = np.zeros((CHANNELS, *self._shape), np.float32)
            sample["descriptors"] = (patch.descriptors if patch.descriptors is not None else empty)[self._inner]
            objects = (patch.labels > 0) & (patch.labels != UNLABELLED)
            sample["descriptor_mask"] = (objects & described).astype(np.float32)[None][self._inner]
        return {name: np.ascontiguousarray(array, np.float32) for name, array in sample.items()}

"""Volumes without labels -> pairs of clean and perturbed crops, read from disk one by one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.errors import InputError
from neuroseg.geometry import parse_roi
from neuroseg.networks.orientations import orientations
from neuroseg.storage.remote import is_remote
from neuroseg.training.data.catalogue import found
from neuroseg.training.data.samples import Samples
from neuroseg.training.data_settings import UnlabelledSettings
from neuroseg.training.perturbations.appearance import Float
from neuroseg.training.perturbations.draw import perturbed
from neuroseg.training.settings import PerturbationSettings
from neuroseg.volumes.addresses import open_any
from neuroseg.volumes.volume import Volume

Sample = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Region:
    """The address of a volume and the part of it to cut crops from."""

    address: str
    roi: Roi
    level: int = 0


def open_unlabelled(volumes: Sequence[UnlabelledSettings], folders: Sequence[str], crop: Sequence[int]) -> list[Region]:
    """Return the regions.

    Raises InputError for a missing file, raw that is not uint8, and a region smaller than a crop.
    """
    regions = []
    for settings in volumes:
        raw = open_any(found(settings.raw, tuple(folders), settings.volume), level=settings.level)
        if raw.dtype != np.uint8:
            raise InputError(
                f"raw {raw.path} contains {raw.dtype} values, expected uint8", hint="convert it with neuroseg import"
            )
        roi = parse_roi(settings.region or ":,:,:", raw.shape)
        if any(size < width for size, width in zip(roi.shape, crop, strict=True)):
            raise InputError(
                f"{raw.path}: the region {tuple(roi.shape)} is smaller than a crop of {tuple(crop)} voxels"
            )
        regions.append(Region(raw.path, roi, settings.level))
    return regions


class Crops:
    """Random crops `(z, y, x)` float32 in [0, 1] of regions on disk. Only one crop at a time is in memory.

    Draws a region (each with the same probability), an orientation of the set `which` (orientations.py), and a place.
    Raises InputError for a region on a server.
    """

    def __init__(self, regions: Sequence[Region], crop: tuple[int, int, int], which: str) -> None:
        for region in regions:
            if is_remote(region.address):
                raise InputError(
                    f"{region.address} is on a server; training reads crops in several processes, which requires a "
                    "local volume",
                    hint=f"copy it first: neuroseg import {region.address} -o volume.zarr",
                )
        self._regions, self._crop, self._turned = list(regions), crop, orientations(which)
        self._opened: dict[tuple[int, str, int], Volume] = {}

    def draw(self, rng: np.random.Generator) -> Float:
        """Return one crop."""
        region = self._regions[int(rng.integers(len(self._regions)))]
        fitting = [
            turned for turned in self._turned
            if all(size >= width for size, width in zip(region.roi.shape, turned.source_shape(self._crop), strict=True))
        ]  # fmt: skip
        turned = fitting[int(rng.integers(len(fitting)))]
        shape = turned.source_shape(self._crop)
        begin = [
            start + int(rng.integers(size - width + 1))
            for start, size, width in zip(region.roi.begin, region.roi.shape, shape, strict=True)
        ]
        values = self._volume(region).read(Roi(begin, shape))
        crop: Float = np.ascontiguousarray(turned.apply(values)).astype(np.float32) / np.float32(255)
        return crop

    def _volume(self, region: Region) -> Volume:
        # Each loader process opens its own files: handles must not be shared across a fork.
        key = (os.getpid(), region.address, region.level)
        if key not in self._opened:
            self._opened[key] = open_any(region.address, level=region.level)
        return self._opened[key]


def perturbed_pair(crops: Crops, settings: PerturbationSettings, rng: np.random.Generator) -> Sample:
    """Return a clean crop and its perturbed copy, both `(1, z, y, x)`, and their `displacement` and `turn`.

    `displacement` `(2, z, y, x)` float32 in voxels is 0 where nothing moved. `turn` is the index of an orientation.
    """
    clean = crops.draw(rng)
    made = perturbed(clean, settings.names, rng, strength=settings.strength, other=lambda: crops.draw(rng))
    displacement = np.zeros((2, *clean.shape), np.float32) if made.displacement is None else made.displacement
    return {
        "clean": clean[None], "perturbed": made.raw[None], "displacement": displacement, "turn": np.array(made.turn),
    }  # fmt: skip


class Pairs:
    """Labelled samples, each with a pair of crops without labels. Item i depends only on the seed and i.

    Without labelled samples, the sequence contains `count` pairs.
    """

    def __init__(
        self,
        labelled: Samples | None,
        crops: Crops,
        settings: PerturbationSettings,
        *,
        seed: int,
        start: int = 0,
        count: int = 0,
    ) -> None:
        self._labelled, self._crops, self._settings, self._seed, self._start = labelled, crops, settings, seed, start
        self._count = count - start if labelled is None else len(labelled)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self._count:
            raise IndexError(index)
        sample: Sample = {} if self._labelled is None else dict(self._labelled[index])
        # A separate random stream: labelled samples do not change if volumes without labels are added.
        rng = np.random.default_rng([self._seed, self._start + index, 1])
        return {**sample, **perturbed_pair(self._crops, self._settings, rng)}

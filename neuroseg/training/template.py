"""Raw and labels -> a minimal configuration to train on them: `neuroseg train --template`.

The voxel size selects the network. The labelled part is split into training and validation. The configuration extends
no other file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from funlib.geometry import Coordinate, Roi

from neuroseg.configuration import validated
from neuroseg.errors import InputError
from neuroseg.fragments.settings import wants_sections
from neuroseg.geometry import Nanometres, Triple, describe, triple
from neuroseg.storage.publish import publish_text
from neuroseg.storage.remote import is_remote
from neuroseg.training.data.labelled import OpenedVolume, open_labelled
from neuroseg.training.data_settings import VolumeSettings
from neuroseg.training.settings import TrainingSettings

_SLAB_VOXELS = 2**26
_VALIDATION_PART = 4  # one quarter is for validation
_LEAST_SPLIT_VOXELS = 16


@dataclass(frozen=True)
class Recipe:
    """Settings for a voxel size and a labelled region: network, patch, tile, and the keys that differ."""

    network: str
    kind: str
    patch: Triple
    tile: Triple
    keys: str
    inference: str = ""


@dataclass(frozen=True)
class Template:
    """A configuration that was written: its path, its network, and its regions for training and validation."""

    path: Path
    network: str
    training: str
    validation: str


def write_template(raw: str, labels: str, path: Path, voxel_size_nm: Nanometres | None = None) -> Template:
    """Write a configuration for one labelled volume to `path`, and return its main settings.

    Raises InputError if raw and labels do not fit, if they seem to be exchanged, or if `path` exists.
    """
    if path.exists():
        raise InputError(
            f"{path} already exists", hint=f"choose another file with -o, or edit it and run neuroseg train {path}"
        )
    content = {"raw": raw, "labels": labels, "voxel_size_nm": voxel_size_nm}
    opened = open_labelled(validated(content, VolumeSettings, "--template"), (".",))
    extent = labelled_extent(opened)
    recipe = recipe_for(opened.voxel_size_nm, triple(extent.shape))
    training, validation = split(extent, recipe.patch)
    text = _text(path, (_address(raw, path), _address(labels, path)), opened, recipe, (training, validation))
    validated(yaml.safe_load(text), TrainingSettings, str(path))
    publish_text(path, text)
    return Template(path, recipe.network, describe(training), describe(validation))


def labelled_extent(opened: OpenedVolume) -> Roi:
    """Return the smallest box of raw with all labels that are not 0. Raises InputError if all are 0."""
    region, step = opened.region, max(1, _SLAB_VOXELS // (opened.region.shape[1] * opened.region.shape[2]))
    found = [np.zeros(size, bool) for size in region.shape]
    for low in range(0, region.shape[0], step):
        depth = min(step, region.shape[0] - low)
        slab = Roi(region.begin + Coordinate(low, 0, 0), (depth, *region.shape[1:]))
        known = opened.read_labels(slab) != 0
        found[0][low : low + depth] |= known.any((1, 2))
        found[1] |= known.any((0, 2))
        found[2] |= known.any((0, 1))
    if not found[0].any():
        raise InputError(f"labels {opened.labels.path} are all 0: no object is labelled")
    places = [np.flatnonzero(axis) for axis in found]
    begin = Coordinate([int(place[0]) for place in places])
    return Roi(region.begin + begin, [int(place[-1]) + 1 - int(place[0]) for place in places])


def split(extent: Roi, patch: Triple) -> tuple[Roi, Roi]:
    """Return the first three quarters of a region along the axis with the most patches, and the rest.

    Raises InputError if the region is too small to split.
    """
    axis = int(np.argmax([size / width for size, width in zip(extent.shape, patch, strict=True)]))
    length = extent.shape[axis]
    if length < _LEAST_SPLIT_VOXELS:
        raise InputError(
            f"only {describe(extent)} is labelled: {length} voxels along {'zyx'[axis]} are too few to use a quarter "
            f"for validation; at least {_LEAST_SPLIT_VOXELS} are expected along one axis"
        )
    rest = length // _VALIDATION_PART
    step = Coordinate([length - rest if each == axis else 0 for each in range(3)])
    shapes = [
        [part if each == axis else size for each, size in enumerate(extent.shape)] for part in (length - rest, rest)
    ]
    return Roi(extent.begin, shapes[0]), Roi(extent.begin + step, shapes[1])


def recipe_for(voxel_size_nm: Nanometres, labelled: Triple) -> Recipe:
    """Return the recipe for a voxel size: superhuman for sections (z at least 3 times y and x), else light."""
    _, y, x = labelled
    if wants_sections(voxel_size_nm):
        patch = (18, _fitting(y, 16, 32, 96), _fitting(x, 16, 32, 96))
        return Recipe("superhuman", "serial sections", patch, (10, 80, 80), _SECTIONS, _BLENDED)
    sigma = 8 * round(float(np.mean(voxel_size_nm)), 1)
    if min(labelled) >= _DEEP_VOXELS:
        edge = _fitting(min(labelled), 8, 40, 72)
        return Recipe("light", "isotropic voxels", (edge, edge, edge), (64, 64, 64), _CUBES.format(sigma=f"{sigma:g}"))
    patch = (24, _fitting(y, 8, 40, 80), _fitting(x, 8, 40, 80))
    return Recipe("light", "a few sections of isotropic voxels", patch, (64, 64, 64), _FEW)


def _fitting(size: int, divisor: int, least: int, most: int) -> int:
    """Return the largest multiple of `divisor` within a region, from `least` to `most`.

    A region smaller than `least` is mirrored.
    """
    return min(most, max(least, size // divisor * divisor))


def _address(address: str, path: Path) -> str:
    """Return an address relative to the folder of the configuration. Absolute addresses are unchanged."""
    if is_remote(address) or os.path.isabs(address):
        return address
    return os.path.relpath(address, path.parent)


def _text(
    path: Path, addresses: tuple[str, str], opened: OpenedVolume, recipe: Recipe, regions: tuple[Roi, Roi]
) -> str:
    common = {"raw": addresses[0], "labels": addresses[1]}
    size = [round(edge, 4) for edge in opened.voxel_size_nm]
    training, validation = ({**common, "region": describe(region), "voxel_size_nm": size} for region in regions)
    # Patches deeper than the labelled sections show the raw around them.
    around = [max(0, width - labelled) for width, labelled in zip(recipe.patch, regions[0].shape, strict=True)]
    if any(around):
        training["surround_voxels"] = around
    return _TEMPLATE.format(
        name=_scalar(path.stem),
        file=path,
        run=Path("runs") / path.stem,
        network=recipe.network,
        kind=recipe.kind,
        size=" x ".join(f"{edge:g}" for edge in opened.voxel_size_nm),
        training=_flow(training),
        validation=_flow(validation),
        patch=list(recipe.patch),
        around=_around(regions, recipe.tile),
        keys=recipe.keys,
        inference=recipe.inference,
    )


def _around(regions: tuple[Roi, Roi], tile: Triple) -> list[int]:
    """Return the raw to segment around the validation region, in voxels on each side.

    Half a tile along the axis of the split. Along other axes, enough to reach the size of a tile.
    """
    cut = [a != b for a, b in zip(regions[0].shape, regions[1].shape, strict=True)]
    short = [max(0, -((size - width) // 2)) for width, size in zip(tile, regions[1].shape, strict=True)]
    return [max(least, width // 2 if was_cut else 0) for least, width, was_cut in zip(short, tile, cut, strict=True)]


def _flow(content: Mapping[str, Any]) -> str:
    """Return a mapping as YAML on one line."""
    return yaml.safe_dump(dict(content), default_flow_style=True, sort_keys=False, width=10_000).strip()


def _scalar(text: str) -> str:
    """Return a text as YAML on one line."""
    return yaml.safe_dump(text, width=10_000).strip().removesuffix("...").strip()


_DEEP_VOXELS = 40
_TEMPLATE = """\
# The {network} network on {kind}, {size} nm.
#   neuroseg train {file} --dry-run        check this file; print time and memory
#   neuroseg train {file} -o {run}        train; the same command resumes
#   neuroseg run VOLUME --model {run}/bundle        segment with the best model
# Relative paths start at the folder of this file. docs/reference/configuration.md lists all keys.
name: {name}
licence: ""  # licence of the data, for the model's card
data:
  # Regions are z0:z1,y0:y1,x0:x1 in voxels of raw. Add a line for each further labelled volume.
  training:
    - {training}
  # A quarter of the labels chooses step, scoring and threshold. The network does not train on it.
  validation: {validation}
network: {{architecture: {network}}}
{keys}
  patch_voxels: {patch}
validation:
  every_steps: 500  # fewer validations save time
  surround_voxels: {around}  # raw around the region: segmented, not scored
{inference}"""
_BLENDED = """\
  tile_voxels: [10, 80, 80]
  context_voxels: [4, 40, 40]
  blend: gaussian
"""
_SECTIONS = """\
targets: {border_axes: [1, 2]}
augmentation: {orientations: in_plane}
optimiser:
  steps: 2000  # raise it while validation still improves
  batch: 1  # raise it on a GPU
  learning_rate: 2.0e-3
  warm_up_steps: 100"""
_FEW = """\
augmentation: {orientations: in_plane, deform: 0}
optimiser:
  steps: 2000  # raise it while validation still improves
  batch: 2  # raise it on a GPU
  learning_rate: 2.0e-3
  warm_up_steps: 100"""
_CUBES = """\
targets:
  # Auxiliary targets for training only: they teach the shape of objects. The model predicts direct neighbours.
  auxiliary_offsets: [[-3, 0, 0], [0, -3, 0], [0, 0, -3], [-9, 0, 0], [0, -9, 0], [0, 0, -9]]
  descriptor_sigma_nm: {sigma}
  descriptor_weight: 4.0
optimiser:
  steps: 3000  # raise it while validation still improves
  batch: 2  # raise it on a GPU
  margin_voxels: [8, 8, 8]
  learning_rate: 2.0e-3
  warm_up_steps: 150"""

"""The layers of a workspace or a volume: raw, affinities, fragments, segmentation and truth, read by regions.

workspace + truth  ->  Layer(read, shape, voxel size, position)  ->  pyramid.py  ->  chunks of a viewer
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.errors import InputError
from neuroseg.evaluation.evaluate import overlap_of, require_labels
from neuroseg.geometry import Nanometres, Triple, contact_channels, slices
from neuroseg.runs.pipeline import workspace_at
from neuroseg.runs.plan import Plan
from neuroseg.storage.arrays import is_array, open_array
from neuroseg.storage.labels import labels_of
from neuroseg.storage.merges import has_merges
from neuroseg.storage.workspace import Workspace, named_workspace
from neuroseg.volumes.addresses import open_any
from neuroseg.volumes.volume import Volume

IMAGE, AFFINITIES, LABELS = "image", "affinities", "labels"
Read = Callable[[Roi], NDArray[Any]]


@dataclass(frozen=True)
class Layer:
    """A layer of a viewer. `read` returns a region of voxels `(z, y, x)`, affinities `(c, z, y, x)`.

    `kind` is IMAGE (any number), AFFINITIES (uint8) or LABELS (integers). `offset_nm` is the position of the lower
    corner of voxel (0, 0, 0).
    """

    name: str
    kind: str
    dtype: np.dtype[Any]
    shape: Triple
    voxel_size_nm: Nanometres
    offset_nm: Nanometres
    read: Read
    channels: int = 1


@dataclass(frozen=True)
class Shown:
    """The layers to show. `workspace` and `plan` are None for a volume."""

    title: str
    layers: dict[str, Layer]
    workspace: Workspace | None = None
    plan: Plan | None = None


def layers_at(address: str, truth: str | None) -> Shown:
    """Return the layers of the workspace or volume at an address, and of ground truth.

    Artifacts that do not exist are left out: they are not written yet, or were removed. Raises InputError if there is
    nothing to show, or if the truth does not fit.
    """
    if named_workspace(address) is None:
        volume = open_any(address)
        layers = [_volume_layer("raw" if volume.dtype.kind == "f" or volume.dtype.itemsize <= 2 else "labels", volume)]
        shown = Shown(address, {layer.name: layer for layer in layers})
    else:
        workspace, plan = workspace_at(address)
        shown = Shown(
            str(workspace.path), {each.name: each for each in _of_workspace(workspace, plan)}, workspace, plan
        )
    if not shown.layers:
        raise InputError(f"{address} has nothing to show yet", hint="start the run first: neuroseg run")
    if truth is not None:
        shown.layers["truth"] = _truth_layer(next(iter(shown.layers.values())), truth)
    return shown


def _of_workspace(workspace: Workspace, plan: Plan) -> Iterator[Layer]:
    if plan.kind == "raw":
        raw = open_any(plan.path, level=plan.level, voxel_size_nm=plan.voxel_size_nm, selection=plan.selection)
        yield _layer("raw", IMAGE, raw.dtype, plan, raw.read)
    channels = contact_channels(plan.offsets)
    if plan.kind != "raw":
        read = plan.affinity_source(workspace).only(channels).open()
        yield _layer("affinities", AFFINITIES, np.dtype(np.uint8), plan, read, len(channels))
    elif is_array(workspace.affinities):
        # Without a cache: blocks that a run has not predicted yet will change.
        read = partial(_read_channels, open_array(workspace.affinities), list(channels))
        yield _layer("affinities", AFFINITIES, np.dtype(np.uint8), plan, read, len(channels))
    found = {"fragments": workspace.fragments, "segmentation": labels_of(workspace) / "0"}
    if not is_array(found["segmentation"]) and has_tree(workspace):
        found["segmentation"] = workspace.fragments  # joined by the merge tree before a run has written labels
    for name, place in found.items():
        if is_array(place):
            array = open_array(place)
            yield _layer(name, LABELS, array.dtype, plan, partial(_read_array, array))


def _read_array(array: Any, roi: Roi) -> NDArray[Any]:
    return np.asarray(array[slices(roi)])


def _read_channels(array: Any, channels: list[int], roi: Roi) -> NDArray[Any]:
    return np.asarray(array.oindex[(channels, *slices(roi))])


def has_tree(workspace: Workspace) -> bool:
    """Return whether there are fragments and their merge tree."""
    return is_array(workspace.fragments) and has_merges(workspace)


def stamp_of(shown: Shown) -> str:
    """Return a word that changes when there are other layers, another merge tree or another segmentation."""
    workspace = shown.workspace
    facts: list[object] = [sorted(shown.layers)]
    if workspace is not None:
        places = (workspace.tree, workspace.all_nodes, workspace.segmentation / "zarr.json")
        facts += [place.stat().st_mtime_ns if isinstance(place, Path) and place.exists() else None for place in places]
    return f"{zlib.crc32(repr(facts).encode()):08x}"


def _layer(name: str, kind: str, dtype: np.dtype[Any], plan: Plan, read: Read, channels: int = 1) -> Layer:
    return Layer(name, kind, dtype, plan.shape, plan.voxel_size_nm, plan.offset_nm, read, channels)


def _volume_layer(name: str, volume: Volume) -> Layer:
    kind = IMAGE if name == "raw" else LABELS
    if volume.voxel_size_nm is None:
        raise InputError(
            f"{volume.path} has no voxel size", hint="give the array an attribute voxel_size (nm, z y x), or import it"
        )
    return Layer(name, kind, volume.dtype, volume.shape, volume.voxel_size_nm, volume.offset_nm, volume.read)


def _truth_layer(first: Layer, address: str) -> Layer:
    """Return the layer of ground truth, at its place beside the layer `first`."""
    truth = require_labels(open_any(address))
    size, begin = first.voxel_size_nm, overlap_of(as_volume(first), truth, None).truth_roi.begin
    offset = tuple(o + b * s for o, b, s in zip(first.offset_nm, begin, size, strict=True))
    return Layer("truth", LABELS, truth.dtype, truth.shape, size, (offset[0], offset[1], offset[2]), truth.read)


def as_volume(layer: Layer) -> Volume:
    """Return a layer of scalars as a volume, for functions that compare volumes."""
    return Volume(layer.name, _Array(layer), layer.voxel_size_nm, layer.offset_nm)


class _Array:
    """A layer that is indexed like an array."""

    chunks = shards = None

    def __init__(self, layer: Layer) -> None:
        self._read, self.shape, self.dtype = layer.read, layer.shape, layer.dtype

    def __getitem__(self, index: Sequence[slice]) -> NDArray[Any]:
        return self._read(Roi([each.start for each in index], [each.stop - each.start for each in index]))

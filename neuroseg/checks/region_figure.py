"""A region of a workspace -> a figure of raw, affinities, fragments, segmentation and ground truth.

Only three planes are read, one voxel thick.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.checks.score import opened_labels
from neuroseg.errors import InputError, NeurosegError
from neuroseg.evaluation.boxes import Overlap
from neuroseg.evaluation.evaluate import overlap_of, require_labels
from neuroseg.geometry import Triple, contact_channels, describe, parse_roi, slices, triple
from neuroseg.runs.finished import require_whole_artifact
from neuroseg.runs.pipeline import workspace_at
from neuroseg.runs.plan import Plan
from neuroseg.storage.arrays import open_array
from neuroseg.storage.labels import labels_of
from neuroseg.storage.publish import require_publishable
from neuroseg.storage.trees import Place
from neuroseg.storage.workspace import Workspace
from neuroseg.views.figure import PLANES, planes_figure
from neuroseg.volumes.addresses import open_any
from neuroseg.volumes.volume import Volume

_LONGEST_EDGE_VOXELS = 512

Read = Callable[[Roi], NDArray[Any]]


@dataclass(frozen=True)
class Drawn:
    """A figure that was written: its region, its columns, and one sentence for each column that is left out."""

    roi: Roi
    columns: tuple[str, ...]
    missing: tuple[str, ...]
    assumptions: tuple[str, ...]


def draw_region(
    workspace_path: str, output: Path, *, roi: str | None = None, truth: str | None = None, title: str | None = None
) -> Drawn:
    """Write a figure of the central planes of a region, and return what it shows.

    The default region is a crop of at most 512 voxels an edge in the middle of the segmented region, or of its overlap
    with the truth. Columns that cannot be read are left out. Raises InputError for an invalid request, and if nothing
    can be drawn.
    """
    require_publishable(output, ".png")
    workspace, plan = workspace_at(workspace_path)
    overlap, labels = _truth_of(workspace_path, truth) if truth else (None, None)
    wanted = parse_roi(roi, plan.shape) if roi else _middle(plan, overlap)
    planes: dict[str, list[NDArray[Any]]] = {}
    missing = []
    for name in _names(plan):
        try:
            read = _reader(name, workspace, plan)
            planes[name] = [read(cut).squeeze(axis - 3) for cut, axis in _cuts(wanted)]
        except (NeurosegError, OSError) as error:
            missing.append(f"{name}: {str(error).splitlines()[0]}")
    if not planes:
        raise InputError(f"{workspace_path} has nothing to draw ({'; '.join(missing)})", hint="start the run first")
    if overlap is not None and labels is not None:
        planes["truth"] = [_read_truth(labels, overlap, cut).squeeze(axis) for cut, axis in _cuts(wanted)]
    planes_figure(
        output,
        planes,
        extent_nm=[length * edge for length, edge in zip(wanted.shape, plan.voxel_size_nm, strict=True)],
        cuts=_centre(wanted),
        title=f"{workspace.path.name}  {describe(wanted)}" if title is None else title,
    )
    return Drawn(wanted, tuple(planes), tuple(missing), overlap.assumptions if overlap else ())


def _truth_of(workspace_path: str, truth: str) -> tuple[Overlap, Volume]:
    _, segmentation, made_by = opened_labels(workspace_path)
    labels = require_labels(open_any(truth))
    return overlap_of(segmentation, labels, made_by.get("roi")), labels


def _middle(plan: Plan, overlap: Overlap | None) -> Roi:
    """Return the default region. With a mask, its centre is in a block of the mask, the nearest to the middle."""
    region = overlap.roi if overlap else parse_roi(plan.roi, plan.shape)
    centre = np.array(region.begin) + np.array(region.shape) // 2
    if plan.mask is not None:
        blocks = [block.write_roi.intersect(region) for block in plan.lattice.blocks((0, 0, 0))]
        middles = np.array([_centre(block) for block in blocks if not block.empty] or [centre])
        centre = middles[((middles - centre) ** 2).sum(axis=1).argmin()]
    shape = np.minimum(region.shape, _LONGEST_EDGE_VOXELS)
    begin = np.clip(centre - shape // 2, region.begin, np.array(region.end) - shape)
    return Roi(begin.tolist(), shape.tolist())


def _names(plan: Plan) -> tuple[str, ...]:
    """Return the columns of a run, in the order of the pipeline."""
    given = {"raw": ("raw", "affinities"), "affinities": ("affinities",), "boundaries": ("boundaries",)}[plan.kind]
    return (*given, "fragments", "segmentation")


def _reader(name: str, workspace: Workspace, plan: Plan) -> Read:
    """Return the function that reads a region of a column. Raises NeurosegError if it cannot be read."""
    if name == "raw":
        return plan.raw_source().open()
    if name in ("affinities", "boundaries"):
        if plan.kind == "raw":
            _require(workspace, plan, workspace.affinities)
        return plan.affinity_source(workspace).only(contact_channels(plan.offsets)).open()
    if name == "fragments":
        _require(workspace, plan, workspace.fragments)
        return _array_reader(workspace.fragments)
    _require(workspace, plan, workspace.segmentation)
    return _array_reader(labels_of(workspace) / "0")


def _require(workspace: Workspace, plan: Plan, artifact: Place) -> None:
    """Raise NeurosegError if an artifact does not exist, or if files of it are missing: zarr would read zeros."""
    if not artifact.exists():
        raise InputError(f"{artifact.name} does not exist: not computed yet, or removed by --keep or neuroseg clean")
    require_whole_artifact(workspace, plan, artifact.name)


def _array_reader(place: Place) -> Read:
    array = open_array(place)
    return lambda roi: np.asarray(array[slices(roi)])


def _cuts(region: Roi) -> Iterator[tuple[Roi, int]]:
    """Yield the central planes of a region, one voxel thick, and the axis of each cut, in the order of PLANES."""
    for _, axis, _, _ in PLANES:
        begin, shape = list(region.begin), list(region.shape)
        begin[axis], shape[axis] = _centre(region)[axis], 1
        yield Roi(begin, shape), axis


def _centre(region: Roi) -> Triple:
    return triple([begin + length // 2 for begin, length in zip(region.begin, region.shape, strict=True)])


def _read_truth(truth: Volume, overlap: Overlap, cut: Roi) -> NDArray[np.uint64]:
    """Return the truth of a region in voxels of the segmentation, 0 where the truth does not reach."""
    out = np.zeros(cut.shape, np.uint64)
    common = cut.intersect(overlap.truth_roi)
    if not common.empty:
        out[slices(common, cut.begin)] = truth.read(common - overlap.truth_roi.begin)
    return out

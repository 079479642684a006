"""A place of a run -> the planes xy, xz and yz through it, of raw and of each stage, as pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.geometry import contact_channels, slices
from neuroseg.report.reported import UNREADABLE, ReportedRun, read_truth
from neuroseg.storage.arrays import is_array
from neuroseg.views.figure import PLANES, Image, coloured_planes

Read = Callable[[Roi], NDArray[Any]]


@dataclass(frozen=True)
class PlacePictures:
    """The pictures `(height, width, 3)`, 0 to 1, of a crop: for each column the planes in the order of views.PLANES.

    `missing` has one sentence for each column that could not be read.
    """

    crop: Roi
    columns: dict[str, list[Image]]
    missing: tuple[str, ...]


class Columns:
    """The columns of the figures of a run: functions that read raw, affinities and labels. Opened once."""

    def __init__(self, run: ReportedRun) -> None:
        self.missing: dict[str, str] = {}
        self._read: dict[str, Read] = {}
        for name, open_column in _openers(run):
            try:
                self._read[name] = open_column()
            except UNREADABLE as error:
                self._drop(name, error)

    def pictures(self, crop: Roi) -> PlacePictures:
        """Return the pictures of the three central planes of a crop. A column that cannot be read is left out."""
        planes: dict[str, list[NDArray[Any]]] = {}
        for name in list(self._read):
            try:
                planes[name] = [self._read[name](plane).squeeze(axis - 3) for plane, axis in _planes_of(crop)]
            except UNREADABLE as error:
                self._drop(name, error)
        return PlacePictures(crop, coloured_planes(planes), tuple(self.missing.values()))

    def _drop(self, name: str, error: Exception) -> None:
        self._read.pop(name, None)
        self.missing[name] = f"{name}: not shown, because it cannot be read ({str(error).splitlines()[0]})"


def _openers(run: ReportedRun) -> Iterator[tuple[str, Callable[[], Read]]]:
    """Yield the name of each column and a function that opens it, in the order of the pipeline."""
    plan, workspace = run.plan, run.workspace
    if plan.kind == "raw":
        yield "raw", lambda: plan.raw_source().open()
    if plan.kind != "raw" or is_array(workspace.affinities):
        channels = contact_channels(plan.offsets)
        yield (
            plan.kind if plan.kind != "raw" else "affinities",
            lambda: plan.affinity_source(workspace).only(channels).open(),
        )
    if (fragments := run.fragments) is not None:
        yield "fragments", lambda: lambda roi: np.asarray(fragments.array[slices(roi)])
    if (segmentation := run.segmentation) is not None:
        yield "segmentation", lambda: segmentation.read
    if run.truth is not None:
        truth, overlap = run.truth
        yield "truth", lambda: read_truth(truth, overlap)


def _planes_of(crop: Roi) -> Iterator[tuple[Roi, int]]:
    """Yield the central planes of a crop as regions one voxel thick, and their axis."""
    for _, axis, _, _ in PLANES:
        begin, shape = list(crop.begin), list(crop.shape)
        begin[axis], shape[axis] = begin[axis] + shape[axis] // 2, 1
        yield Roi(begin, shape), axis

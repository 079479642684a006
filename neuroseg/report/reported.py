"""The input of the sections of a report: the workspace of a run, its plan, its stages and its stored results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.errors import NeurosegError
from neuroseg.evaluation.boxes import Overlap
from neuroseg.evaluation.evaluate import overlap_of, require_labels
from neuroseg.geometry import parse_roi
from neuroseg.report.stage_records import StageRecords, stage_records
from neuroseg.runs.finished import is_finished, stages_as_stored
from neuroseg.runs.plan import Plan
from neuroseg.segmentation.pyramid import level_factors
from neuroseg.storage.arrays import is_array, open_array
from neuroseg.storage.labels import labels_of
from neuroseg.storage.workspace import Workspace
from neuroseg.volumes.addresses import open_any
from neuroseg.volumes.axes import PLAIN
from neuroseg.volumes.volume import Volume, open_volume
from neuroseg.volumes.zarr_nodes import open_node

UNREADABLE = (NeurosegError, OSError, ValueError, RuntimeError)
"""Errors of files that were moved, deleted or damaged after the run. The report leaves out what they contain."""


@dataclass(frozen=True)
class ReportedRun:
    """A run, and the address of its ground truth if there is one."""

    workspace: Workspace
    plan: Plan
    truth_address: str | None = None

    @cached_property
    def stages(self) -> list[StageRecords]:
        """The records of all stages, in order."""
        return [stage_records(self.workspace, stage) for stage in stages_as_stored(self.workspace, self.plan)]

    @cached_property
    def is_published(self) -> bool:
        """Whether the segmentation of the plan is finished."""
        return is_finished(self.workspace, self.plan)

    @property
    def region(self) -> Roi:
        """The region of the run, in voxels."""
        return parse_roi(self.plan.roi, self.plan.shape)

    @cached_property
    def segmentation(self) -> Volume | None:
        """The stored segmentation, which may be older than the plan. None without one."""
        try:
            return open_volume(str(self.workspace.segmentation)) if self.made_by else None
        except UNREADABLE:
            return None

    @cached_property
    def made_by(self) -> dict[str, Any]:
        """The settings of the stored segmentation (threshold, scoring, roi). Empty without one."""
        if not self.workspace.segmentation.exists():
            return {}
        try:
            settings: dict[str, Any] = dict(open_node(self.workspace.segmentation).attrs.get("neuroseg", {}))
        except UNREADABLE:
            return {}
        return settings

    @cached_property
    def fragments(self) -> Volume | None:
        """The stored fragments. None without them. Blocks that are not done contain 0."""
        if not is_array(self.workspace.fragments):
            return None
        array = open_array(self.workspace.fragments)
        return Volume(str(self.workspace.fragments), array, self.plan.voxel_size_nm, self.plan.offset_nm, PLAIN)

    def level(self, number: int) -> Volume | None:
        """Return a level of the segmentation's pyramid. None without a segmentation."""
        if self.segmentation is None:
            return None
        return replace(self.segmentation, array=open_array(labels_of(self.workspace) / str(number)))

    @property
    def scales(self) -> list[tuple[int, int, int]]:
        """The size of a voxel of each level of the pyramid, in voxels of the volume. Full resolution comes first."""
        scales = [(1, 1, 1)]
        for factors in level_factors(self.plan.shape, self.plan.voxel_size_nm):
            z, y, x = (a * b for a, b in zip(scales[-1], factors, strict=True))
            scales.append((z, y, x))
        return scales

    @cached_property
    def truth(self) -> tuple[Volume, Overlap] | None:
        """The ground truth and its overlap with the segmentation. None without one of them.

        Raises InputError if they cannot be compared.
        """
        if self.truth_address is None or self.segmentation is None:
            return None
        truth = require_labels(open_any(self.truth_address))
        return truth, overlap_of(self.segmentation, truth, self.made_by.get("roi"))

    @property
    def shown_region(self) -> Roi:
        """The region in which places are chosen: that of the run, or the part of it that the truth covers."""
        return self.region if self.truth is None else self.truth[1].roi.intersect(self.region)


def read_truth(truth: Volume, overlap: Overlap) -> Callable[[Roi], NDArray[Any]]:
    """Return a function that reads a region of the run from the truth. Voxels outside the truth are 0."""

    def read(roi: Roi) -> NDArray[Any]:
        inside = roi.intersect(overlap.truth_roi)
        out = np.zeros(tuple(roi.shape), np.uint64)
        if not inside.empty:
            place = tuple(slice(b, e) for b, e in zip(inside.begin - roi.begin, inside.end - roi.begin, strict=True))
            out[place] = truth.read(inside - overlap.truth_roi.begin)
        return out

    return read

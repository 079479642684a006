"""Validate a trained model: predict a volume, then segment and score it with two published methods.

    waterz   seeded watershed in each section, agglomeration by the median of the contacts' maxima (quantile 50)
    lmc      distance-transform watershed in each section, multicut of the whole graph (name from the research code)

Both methods follow Huang et al. (IEEE TMI 2022). They run blockwise, so the volume may have any size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from funlib.geometry import Roi

from neuroseg.execution.task import Begin
from neuroseg.fragments.settings import DISTANCE_WATERSHED, SEEDED_WATERSHED
from neuroseg.geometry import Triple
from neuroseg.runs import pipeline
from neuroseg.runs.options import Options
from neuroseg.storage.workspace import Workspace

THRESHOLD = 0.5
_BLOCK_VOXELS = 2**24
_LARGEST_SECTION = 2**26
_CHUNK_VOXELS = 64
POSTPROCESSINGS: Mapping[str, Mapping[str, Any]] = {
    "waterz": {"fragments": SEEDED_WATERSHED, "agglomeration": "tree", "scoring": "quantile:50"},
    "lmc": {"fragments": DISTANCE_WATERSHED, "agglomeration": "multicut", "scoring": "mean"},
}


@dataclass(frozen=True)
class ValidationVolume:
    """A volume with ground truth: both addresses, and the region to evaluate."""

    raw: str
    labels: str
    roi: str
    voxel_size_nm: tuple[float, float, float]


@dataclass(frozen=True)
class Validation:
    """The workspaces of the prediction and of its segmentations, and the block shape of both segmentations."""

    predicted: Workspace
    segmented: Mapping[str, Workspace]
    blocks: Triple


def validate_on(
    volume: ValidationVolume,
    model: str,
    folder: Path,
    given: Mapping[str, Any],
    *,
    restart: bool = False,
    begin: Begin = pipeline.silent,
) -> Validation:
    """Predict the region of a volume and segment it with both methods, in workspaces below `folder`.

    Resume existing workspaces, or recompute them with `restart`. `given`: options (blocks, workers, executor, device,
    threshold). Both methods cut fragments at block borders. So a block contains whole sections, unless `given`
    sets another block shape or a section has more than 67 million voxels.

    Raises RunRefusedError if a workspace has results of other settings, or if another run uses it.
    """
    again = "all" if restart else None
    prediction = {name: value for name, value in given.items() if name != "threshold"}
    common = {"roi": volume.roi, "voxel_size": volume.voxel_size_nm}
    where = {"volume": volume.raw, "model": model, "output": str(folder / "predicted.neuroseg")}
    predicted, _ = pipeline.predict(
        Options.model_validate({**prediction, **common, **where}), restart=again, begin=begin
    )
    plan = pipeline.workspace_at(str(predicted.path))[1]
    offsets = ";".join(",".join(map(str, offset)) for offset in plan.offsets)
    blocks = whole_sections(plan.lattice.roi)
    if blocks is not None:
        common["blocks"] = ",".join(map(str, blocks))
    segmented = {}
    for name, methods in POSTPROCESSINGS.items():
        output = str(folder / f"{name}.neuroseg")
        source = {"affinities": str(predicted.affinities), "offsets": offsets, "output": output}
        later = {key: value for key, value in given.items() if key != "device"}
        options = Options.model_validate({"threshold": THRESHOLD, **common, **later, **methods, **source})
        segmented[name], _ = pipeline.segment(options, restart=again, begin=begin)
    return Validation(predicted, segmented, pipeline.workspace_at(output)[1].blocks)


def whole_sections(roi: Roi) -> Triple | None:
    """Return a block shape that contains whole sections of a region, about 16 million voxels if possible.

    Return None if a section has more than 67 million voxels: it would not fit into the memory of a worker.
    """
    area = roi.shape[1] * roi.shape[2]
    if area > _LARGEST_SECTION:
        return None
    height, width = (-(-end // _CHUNK_VOXELS) * _CHUNK_VOXELS for end in roi.end[1:])
    return (max(1, min(_CHUNK_VOXELS, _BLOCK_VOXELS // area)), height, width)


def validate_all(
    volumes: list[ValidationVolume], validated: Callable[[int, ValidationVolume], dict[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, dict[str, float]]]:
    """Return the validations of several volumes, and their mean scores per method."""
    rows = [validated(number, volume) for number, volume in enumerate(volumes)]
    names = ("voi_split", "voi_merge", "voi_sum", "arand")
    means = {
        way: {name: sum(row["scores"][way][name] for row in rows) / len(rows) for name in names}
        for way in POSTPROCESSINGS
    }
    return rows, means

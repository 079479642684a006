"""One prediction, two published ways to segment it, scored side by side: how a trained model is judged.

    waterz   seeded watershed within each section, merged by the median of the contacts' maxima (quantile 50)
    lmc      the same fragments, one multicut of the graph (what the research code calls LMC)

Both of Huang et al. (IEEE TMI 2022), through the blockwise pipeline: the volume may be of any size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuroseg import pipeline
from neuroseg.fragments.settings import SEEDED_WATERSHED
from neuroseg.options import Options
from neuroseg.running import Begin
from neuroseg.storage.workspace import Workspace

THRESHOLD = 0.5
POSTPROCESSINGS: Mapping[str, Mapping[str, Any]] = {
    "waterz": {"fragments": SEEDED_WATERSHED, "agglomeration": "tree", "scoring": "quantile:50"},
    "lmc": {"fragments": SEEDED_WATERSHED, "agglomeration": "multicut", "scoring": "mean"},
}


@dataclass(frozen=True)
class Judged:
    """A volume with truth: its addresses and the region that counts."""

    raw: str
    labels: str
    roi: str
    voxel_size_nm: tuple[float, float, float]


@dataclass(frozen=True)
class Trial:
    """Where the prediction and its segmentations lie."""

    predicted: Workspace
    segmented: Mapping[str, Workspace]


def carry_out(
    volume: Judged,
    model: str,
    folder: Path,
    given: Mapping[str, Any],
    *,
    restart: bool = False,
    begin: Begin = pipeline.silent,
) -> Trial:
    """Predict the region of a volume and segment it both ways in workspaces below `folder`.

    Resumes what is there, or with `restart` makes all of it again. `given` are options of the run (blocks, workers,
    executor, device, threshold).
    """
    again = "all" if restart else None
    prediction = {name: value for name, value in given.items() if name != "threshold"}
    common = {"roi": volume.roi, "voxel_size": volume.voxel_size_nm}
    where = {"volume": volume.raw, "model": model, "output": str(folder / "predicted.neuroseg")}
    predicted, _ = pipeline.predict(
        Options.model_validate({**prediction, **common, **where}), restart=again, begin=begin
    )
    offsets = ";".join(",".join(map(str, offset)) for offset in pipeline.workspace_at(str(predicted.path))[1].offsets)
    segmented = {}
    for name, methods in POSTPROCESSINGS.items():
        output = str(folder / f"{name}.neuroseg")
        source = {"affinities": str(predicted.affinities), "offsets": offsets, "output": output}
        later = {key: value for key, value in given.items() if key != "device"}
        options = Options.model_validate({"threshold": THRESHOLD, **later, **common, **methods, **source})
        segmented[name], _ = pipeline.segment(options, restart=again, begin=begin)
    return Trial(predicted, segmented)


def in_turn(
    volumes: list[Judged], trial: Callable[[int, Judged], dict[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, dict[str, float]]]:
    """Return the trials of several volumes, and the mean of their scores per way to segment."""
    rows = [trial(number, volume) for number, volume in enumerate(volumes)]
    names = ("voi_split", "voi_merge", "voi_sum", "arand")
    means = {
        way: {name: sum(row["scores"][way][name] for row in rows) / len(rows) for name in names}
        for way in POSTPROCESSINGS
    }
    return rows, means

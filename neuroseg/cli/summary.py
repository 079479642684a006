"""The result of a command: a table on stderr, or one JSON object on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from neuroseg.runs.stages import StageSummary
    from neuroseg.storage.workspace import Workspace

_DAY_S = 86400.0
_SHOWN_IN_DAYS_S = 2 * _DAY_S


def print_json(content: Any) -> None:
    """Print one JSON object on stdout."""
    print(json.dumps(content, indent=2))


def duration(seconds: float) -> str:
    """Return a duration as `3:25` (minutes and seconds), `2:03:25` (with hours) or `12.5 days`."""
    if seconds >= _SHOWN_IN_DAYS_S:
        return f"{seconds / _DAY_S:.1f} days"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def stage_rows(summaries: Sequence[StageSummary]) -> list[dict[str, Any]]:
    """Return one row per stage: blocks, seconds, rate and memory."""
    return [
        {
            "stage": s.stage,
            "blocks": s.blocks,
            "seconds": round(s.seconds, 2),
            "mvoxel_per_s": round(s.voxels / s.seconds / 1e6, 3) if s.seconds else None,
            "peak_mib": s.peak_mib or None,
            "outside_mask": s.outside,
            "peak_disk_bytes": s.peak_disk_bytes or None,
        }
        for s in summaries
    ]


def run_summary(workspace: Workspace, summaries: Sequence[StageSummary], took_s: float | None = None) -> dict[str, Any]:
    """Return the summary of a run: stages, number and size of segments, paths of the results, deviation from its plan.

    `took_s` is the duration of the run. Without it, the run is not compared with its plan.
    """
    from neuroseg.checks.advice import advice_on
    from neuroseg.report.largest import stored_sizes
    from neuroseg.volumes.zarr_nodes import open_node

    content: dict[str, Any] = {"workspace": str(workspace.path), "stages": stage_rows(summaries)}
    if workspace.lookup.exists() and workspace.segmentation.exists():
        made_by = open_node(workspace.segmentation).attrs["neuroseg"]
        content["segments"] = segment_count(workspace)
        sizes = stored_sizes(workspace)
        content["largest_segment"] = None if sizes is None else _largest(sizes)
        content["advice"] = None if sizes is None else advice_on(workspace, sizes)
        content["segmentation"] = str(workspace.segmentation)
        content |= {name: made_by[name] for name in ("threshold", "scoring")}
    elif workspace.affinities.exists():
        content["affinities"] = str(workspace.affinities)
    return content if took_s is None else content | _compared_with_plan(workspace, summaries, took_s)


def _compared_with_plan(workspace: Workspace, summaries: Sequence[StageSummary], took_s: float) -> dict[str, Any]:
    """Return how far the run was off its plan. Empty if nobody planned it, or if it resumed another run."""
    from neuroseg.runs.plan import read_plan
    from neuroseg.runs.stored_estimate import deviations, read_estimate

    plan = read_plan(workspace)
    if (estimate := read_estimate(workspace, plan)) is None:
        return {}
    found = deviations(estimate, plan.stages(workspace), summaries, workspace, took_s)
    rows = {
        name: {"planned": each.planned, "taken": round(each.taken, 2), "percent": round(each.percent, 1)}
        for name, each in found.items()
    }
    return {"plan": rows} if rows else {}


def _largest(sizes: NDArray[np.int64]) -> dict[str, Any]:
    """Return the largest segment and its share of the fragments' voxels. A large share indicates a merge error."""
    segments = sizes.copy()
    segments[0] = 0
    largest, total = int(segments.argmax()), int(sizes.sum())
    voxels = int(segments[largest])
    return {"id": largest, "voxels": voxels, "share": round(voxels / total, 4) if total else 0.0}


def segment_count(workspace: Workspace) -> int:
    """Return the number of segments in the stored segmentation."""
    from neuroseg.storage.parts import map_lookup

    segments = map_lookup(workspace.lookup)["segment"]
    return int(segments.max()) if len(segments) else 0


def _about_largest(largest: dict[str, Any] | None) -> list[str]:
    if largest is None or not largest["voxels"]:
        return []
    return [f"largest segment: id {largest['id']}, {100 * largest['share']:.1f} % of the segmented voxels"]


def about_plan(plan: dict[str, Any]) -> str:
    """Return how far a run was off its plan: `plan: 3:10, took 3:25 (8 % more); disk ...`."""
    from neuroseg.storage.space import readable

    def compared(name: str, text: Callable[[float], str]) -> str:
        row = plan[name]
        more = "more" if row["percent"] >= 0 else "less"
        return f"{text(row['planned'])}, took {text(row['taken'])} ({abs(row['percent']):.0f} % {more})"

    text = f"plan: {compared('seconds', duration)}"
    if "disk_bytes" in plan:
        text += f"; disk {compared('disk_bytes', readable)}"
    worker, head = (compared(name, _mebibytes) for name in ("worker_peak_mib", "head_peak_mib"))
    return f"{text}; memory of a worker {worker}, of the head {head}"


def _mebibytes(count: float) -> str:
    return f"{count:.0f} MiB"


def print_summary(content: dict[str, Any], next_steps: Sequence[str]) -> None:
    """Print a run's summary for people, on stderr."""
    from neuroseg.storage.space import readable

    lines = [f"{'stage':>14} {'blocks':>7} {'seconds':>8} {'Mvoxel/s':>9} {'peak MiB':>9}"]
    for row in content["stages"]:
        if row["blocks"]:
            rate = f"{row['mvoxel_per_s']:9.2f}" if row["mvoxel_per_s"] else " " * 9
            counts = f"{row['stage']:>14} {row['blocks']:7d} {row['seconds']:8.1f}"
            lines.append(f"{counts} {rate} {row['peak_mib'] or 0:9d}")
        else:
            lines.append(f"{row['stage']:>14}       -  (already done)")
    outside = [row for row in content["stages"] if row["outside_mask"]]
    if outside:
        lines.append(f"{outside[0]['stage']}: skipped {outside[0]['outside_mask']} blocks outside the mask")
    for row in [row for row in content["stages"] if row["peak_disk_bytes"]]:
        lines.append(
            f"{row['stage']}: used up to {readable(row['peak_disk_bytes'])} of disk, now deleted (--keep stream)"
        )
    if "segments" in content:
        made = f"{content['scoring']}, threshold {content['threshold']:g}"
        lines.append(f"{content['segments']} segments ({made}) in {content['segmentation']}")
        lines += _about_largest(content["largest_segment"])
        lines += [f"note: {content['advice']}"] if content["advice"] else []
    elif "affinities" in content:
        lines.append(f"affinities in {content['affinities']}")
    lines += [about_plan(content["plan"])] if "plan" in content else []
    lines += [f"  next: {step}" for step in next_steps]
    print("\n".join(lines), file=sys.stderr)

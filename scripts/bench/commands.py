"""The command `neuroseg segment`: wall time, start of the workers, their peak memory."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

from cube import Cube, children_cpu_seconds, command, eightfold
from report import END_TO_END, Row, timed

from neuroseg.execution.block import ledger_of
from neuroseg.runs.pipeline import workspace_at


def measure(data: Cube, block: int, repeat: int) -> list[Row]:
    """Return the time end to end, and the longest time of a stage from its start to its first block."""
    seconds, cpu_seconds, starts, peaks = [], [], [], []
    for _ in range(repeat):
        before = children_cpu_seconds()
        took, content = _segmented(data, block, data.cores)
        cpu_seconds.append(children_cpu_seconds() - before)
        seconds.append(took)
        starts.append(_start_up_seconds(Path(content["workspace"])))
        peaks.append(_peak_mib(content))
    per_core = data.voxels / data.cores
    return [
        timed(
            "neuroseg",
            f"{END_TO_END}, blocks {block}",
            seconds,
            round(per_core),
            cpu_s=round(statistics.median(cpu_seconds), 2),
            peak_mib=max(peaks),
        ),
        Row(
            "neuroseg",
            f"worker start, blocks {block}",
            {"first_block_s": round(statistics.median(starts), 2), "most_s": round(max(starts), 2)},
        ),
    ]


def measure_memory(data: Cube, repeat: int) -> list[Row]:
    """Return the workers' peak memory on the cube and on eight cubes in one volume, with blocks of 64."""
    rows = []
    for what, affinities in (("the cube", data.affinities), ("eight cubes", eightfold(data))):
        _, content = _segmented(data, 64, 1, affinities=affinities)
        rows.append(Row("memory", f"worker, {what}", {"peak_mib": _peak_mib(content)}))
    return rows


def _segmented(data: Cube, block: int, workers: int, *, affinities: Path | None = None) -> tuple[float, dict[str, Any]]:
    """Run the command in a new workspace. Return its wall time and its JSON output."""
    workspace = data.folder / "command.neuroseg"
    shutil.rmtree(workspace, ignore_errors=True)
    source = str(affinities or data.affinities)
    arguments = ["--affinities", source, "-o", str(workspace), "--blocks", str(block)]
    line = command("segment", *arguments, "--workers", str(workers), "--json")
    began = time.perf_counter()
    done = subprocess.run(line, check=True, capture_output=True, text=True)
    return time.perf_counter() - began, json.loads(done.stdout)


def _peak_mib(content: dict[str, Any]) -> int:
    """Return the largest peak memory of the stages with more than one block, which workers run. 0 if there is none."""
    return max((stage["peak_mib"] or 0 for stage in content["stages"] if stage["blocks"] > 1), default=0)


def _start_up_seconds(folder: Path) -> float:
    """Return the longest time from the start of a stage with workers to the start of its first block."""
    longest = 0.0
    workspace, plan = workspace_at(str(folder))
    for stage in plan.stages(workspace):
        records = ledger_of(workspace, stage).records()
        if len(records) > 1:
            first = min(record["time"] - record["seconds"] for record in records)
            longest = max(longest, first - (folder / "ledger" / stage.name / "identity.yaml").stat().st_mtime)
    return longest

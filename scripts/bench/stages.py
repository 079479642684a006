"""Affinities zarr -> segmentation zarr, each stage in this process: rate, bytes read and written."""

from __future__ import annotations

import itertools
import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from cube import Cube
from report import Row, timed

from neuroseg.runs import pipeline
from neuroseg.runs.options import Options
from neuroseg.runs.stages import StageSummary
from neuroseg.storage.arrays import use_threads


def measure(data: Cube, block: int, repeat: int) -> list[Row]:
    """Return a row per stage and one for all stages. The first run does not count, because it compiles."""
    use_threads(1)
    seconds: dict[str, list[float]] = defaultdict(list)
    moved: dict[str, tuple[int, int]] = {}
    for repetition in range(repeat + 1):
        summaries, moved = _segmented(data, block)
        if repetition:
            for summary in summaries:
                seconds[summary.stage].append(summary.seconds)
    rows = [
        timed(
            f"stages, blocks {block}", stage, times, data.voxels,
            read_mb=round(moved[stage][0] / 1e6, 1), written_mb=round(moved[stage][1] / 1e6, 1),
        )
        for stage, times in seconds.items()
    ]  # fmt: skip
    together = [sum(times) for times in zip(*seconds.values(), strict=True)]
    return [*rows, timed(f"stages, blocks {block}", "all stages", together, data.voxels)]


def _segmented(data: Cube, block: int) -> tuple[list[StageSummary], dict[str, tuple[int, int]]]:
    """Segment the cube. Return the summary of each stage, and the bytes that it read and wrote."""
    workspace = data.folder / "stages.neuroseg"
    shutil.rmtree(workspace, ignore_errors=True)
    starts: list[tuple[str, int, int]] = []

    def begin(stage: str, blocks: int, voxels: int) -> Callable[[int, int], None]:
        starts.append((stage, *_bytes_moved()))
        return lambda done, failed: None

    given = {"affinities": str(data.affinities), "output": str(workspace), "blocks": str(block), "executor": "serial"}
    _, summaries = pipeline.segment(Options.model_validate(given), begin=begin)
    starts.append(("", *_bytes_moved()))
    moved = {one[0]: (following[1] - one[1], following[2] - one[2]) for one, following in itertools.pairwise(starts)}
    return summaries, moved


def _bytes_moved() -> tuple[int, int]:
    """Return the number of bytes that this process has read and written so far."""
    lines = Path("/proc/self/io").read_text().splitlines()
    counts = {name: int(value) for name, value in (line.split(": ") for line in lines)}
    return counts["rchar"], counts["wchar"]

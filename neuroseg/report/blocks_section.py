"""The section of the blocks: a map of each stage with the time, memory and state of its blocks, and the failures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuroseg.execution.failures import distinct_causes
from neuroseg.report.markup import command, counted, figure, group, heading, paragraph, picture, section
from neuroseg.report.reported import ReportedRun
from neuroseg.report.stage_records import StageRecords
from neuroseg.views.block_map import MOST_LAYERS, is_projected, number_map, state_map
from neuroseg.views.webp import Pixels, drawing


def blocks_section(run: ReportedRun) -> str:
    """Return the block maps of all stages with several blocks, and the causes of failures with commands to debug."""
    stages = [stage for stage in run.stages if stage.has_map]
    parts = [_failures(run), *(_maps(stage) for stage in stages)]
    if stages:
        key = group("key", [f'<span class="{name}">{name}</span>' for name in ("done", "left", "failed")])
        text = (
            f"One square per block, y down, x to the right. Up to {MOST_LAYERS} layers of blocks (z) lie side by side. "
            "Memory is the peak of the worker so far."
        )
        parts[1:1] = [paragraph(text, "note"), key]
    else:
        parts.append(paragraph("No stage has more than one block, so there is nothing to map."))
    return section("blocks", "Blocks", *parts)


def _failures(run: ReportedRun) -> str:
    """Return each distinct cause of failed blocks. Empty without failures."""
    parts: list[str] = []
    for stage in run.stages:
        if not stage.failures:
            continue
        parts.append(heading(f"Stage {stage.name}: {counted(len(stage.failures), 'failed block')}"))
        for cause, first in distinct_causes(stage.failures):
            parts.append(paragraph(cause, "warning"))
            parts.append(command("neuroseg", "replay", str(run.workspace.path), stage.name, str(first)))
    return "\n".join(parts)


def _maps(stage: StageRecords) -> str:
    """Return the three maps of one stage."""
    maps = [_number(stage, "time", stage.seconds, "s"), _number(stage, "memory", stage.peak_mib, "MiB")]
    failed, left = len(stage.failures), len(stage.left) - len(stage.failures)
    words = f"{len(stage.indices):,} done, {left:,} left, {failed:,} failed"
    maps.append(figure(_map(state_map(stage.states()), f"{stage.name}: state of the blocks, {words}"), words))
    note = " The largest value along z is shown." if is_projected(stage.counts) else ""
    size = " x ".join(map(str, stage.block_shape))
    return figure(group("panels three", maps), f"{stage.name}, blocks of {size} voxels.{note}")


def _number(stage: StageRecords, what: str, values: NDArray[np.float64], unit: str) -> str:
    """Return the map of one number per block, with its scale."""
    largest = float(values.max(initial=0.0))
    scale = f"{what}: 0 to {largest:.3g} {unit}" if largest < 1000 else f"{what}: 0 to {largest:,.0f} {unit}"
    drawn = _map(number_map(stage.on_lattice(values), largest), f"{stage.name}: {what} of each block")
    return figure(f'{drawn}<span class="ramp"></span>', scale)


def _map(pixels: Pixels, alternative: str) -> str:
    """Return a map that is not enlarged beyond its pixels."""
    height, width = pixels.shape[:2]
    return group(
        "fit", [picture(drawing(pixels), alternative, (width, height), "map")], f"max-width:{max(width, 40)}px"
    )

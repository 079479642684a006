"""The estimate of a run -> advice before it starts: disk, memory, workers, block size."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from neuroseg.execution.cluster.site import PREDICTING
from neuroseg.geometry import triple
from neuroseg.runs.block_sums import block_count, read_length, summed, voxel_count
from neuroseg.runs.estimate import Estimate, Setting
from neuroseg.runs.options import CLUSTERS
from neuroseg.runs.plan import Plan
from neuroseg.runs.streaming import blocks_held
from neuroseg.storage.space import free_bytes, readable
from neuroseg.storage.workspace import Workspace

# Larger blocks are worth it if the blocks read at least this many times their own voxels, and larger ones 20 % less.
_MUCH_CONTEXT, _WORTH_IT = 1.8, 0.8
_BLOCKS_A_WORKER = 4
_MIB = 2**20


def advice_for(plan: Plan, workspace: Workspace, estimate: Estimate, setting: Setting) -> list[str]:
    """Return sentences that each name an option to change. Empty if the run fits this machine."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    free = free_bytes(workspace.path) if isinstance(workspace.artifacts, Path) else None
    found = [
        *(_on_disk(plan, workspace, estimate, setting, free) if free is not None else ()),
        *(_on_memory(plan, estimate, memory) if plan.executor not in CLUSTERS else _on_requests(estimate)),
        *_on_workers(plan, estimate),
        *_on_blocks(plan, workspace, estimate, memory),
    ]
    return [*found, *(_on_device(plan, estimate) if plan.kind == "raw" else ())]


def _on_device(plan: Plan, estimate: Estimate) -> Iterator[str]:
    """Name a difference between the devices that predict and that were measured."""
    measured = next(row for row in estimate.stages if row.stage == PREDICTING).device
    if plan.device.startswith("cuda") and measured == "cpu":
        yield "the probes predicted on a CPU; add --probe-jobs to measure the GPUs of the cluster"


def _on_disk(plan: Plan, workspace: Workspace, estimate: Estimate, setting: Setting, free: int) -> Iterator[str]:
    needed = estimate.peak_disk_bytes
    if needed <= free:
        return
    saved = 0.0
    if plan.kind == "raw" and not setting.is_streamed:
        lattice = plan.affinities_stage(workspace).lattice
        row = next(row for row in estimate.stages if row.stage == PREDICTING)
        held = min(1.0, blocks_held(lattice) / max(1, row.blocks))
        saved = sum(row.disk_bytes.values()) * (1 - held)
    short = f"the run needs {readable(needed)} of disk, but {readable(free)} are free"
    if needed - saved <= free:
        yield f"{short}; use --keep stream, which needs {readable(needed - saved)}"
    else:
        yield f"{short}; choose a larger disk with -o, or a smaller region with --roi"


def _on_memory(plan: Plan, estimate: Estimate, memory: int) -> Iterator[str]:
    """Suggest fewer workers or smaller blocks if the stage that needs the most memory exceeds this machine's."""
    left = memory - estimate.head_peak_mib * _MIB
    row = max(estimate.stages, key=lambda row: row.workers * row.peak_mib)
    if row.workers * row.peak_mib * _MIB <= left:
        return
    need = f"{row.workers} workers of stage {row.stage} need {readable(row.peak_mib * _MIB)} each"
    fitting = int(max(0, left) // (row.peak_mib * _MIB))
    smaller = ",".join(str(max(1, size // 2)) for size in plan.blocks)
    advice = f"--workers {fitting}" if fitting else f"--blocks {smaller}"
    if row.workers == 1 and row.blocks == 1:
        need = f"stage {row.stage} needs {readable(row.peak_mib * _MIB)}"
        advice = "a smaller region with --roi"
    yield f"{need}, more than this machine's memory of {readable(memory)}; use {advice}"


def _on_requests(estimate: Estimate) -> Iterator[str]:
    request = readable(1.25 * estimate.worker_peak_mib * _MIB)
    yield f"request at least {request} of memory per job in the cluster configuration (estimate and a quarter)"


def _on_workers(plan: Plan, estimate: Estimate) -> Iterator[str]:
    blocks = max(row.blocks for row in estimate.stages)
    if blocks < plan.workers:
        yield f"{plan.workers} workers share {blocks} blocks; use smaller --blocks, or --workers {blocks}"


def _on_blocks(plan: Plan, workspace: Workspace, estimate: Estimate, memory: int) -> Iterator[str]:
    """Suggest blocks of twice the size if they read much less context, keep all workers busy and fit the memory."""
    stage = next(stage for stage in plan.stages(workspace) if stage.name == "fragments")
    lattice = stage.lattice
    larger = replace(lattice, block_shape=triple([2 * size for size in lattice.block_shape]))
    now, then = (summed(each, read_length(each, stage.halo)) / max(1, voxel_count(each)) for each in (lattice, larger))
    fits = 8 * estimate.worker_peak_mib * _MIB * max(1, plan.workers) <= memory
    enough = block_count(larger) >= _BLOCKS_A_WORKER * plan.workers
    if now >= _MUCH_CONTEXT and then <= _WORTH_IT * now and fits and enough:
        size = ",".join(map(str, larger.block_shape))
        yield f"blocks read {now:.1f} times their own voxels; with --blocks {size} they read {then:.1f} times"

"""Measurements at some blocks -> time, disk and memory of the whole run, by stage.

The time of a stage grows with the voxels that its blocks read, or with edges; its files with the voxels that it writes.
The sums over all blocks are exact, at any size of the volume (block_sums.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neuroseg.agglomeration.stage import AgglomerationStage
from neuroseg.configuration import Section
from neuroseg.execution.cluster.site import DEFAULT_JOBS, NO_SITE, PREDICTING, Site
from neuroseg.runs.block_sums import Inside, block_count, inside_mask, largest, summed, voxel_count
from neuroseg.runs.groups import in_groups
from neuroseg.runs.measuring import Measured, Probe, work_of
from neuroseg.runs.options import CLUSTERS
from neuroseg.runs.plan import Plan
from neuroseg.runs.probe_processes import Probed
from neuroseg.runs.probing import is_of_tables
from neuroseg.runs.streaming import blocks_held
from neuroseg.runs.temporary import most_at_a_time
from neuroseg.segmentation.stage import PyramidStage
from neuroseg.stage import Stage
from neuroseg.storage.workspace import Workspace

_HOUR_S = 3600.0
# Files of a stage apart from its blocks: its identity and its marks.
_LEDGER_FILES = 2
# The share of edges that waits for the last group, and the share of the others that groups leave to groups twice as
# wide. Measured with python scripts/scale.
_WAITING, _LEFT_BY_A_LEVEL = 0.057, 0.45
# Peak memory of a worker for each edge that a group reads, and of the table of segments for each edge of the region.
# Measured with python scripts/scale agglomeration.
_PEAK_BYTES_OF_AN_EDGE = {"agglomeration": 110, "lookup": 9}
# Memory of the head for each block of the stages that run together. Measured with scripts/bench_schedulers.py, serial:
# 133 MiB with 480 blocks, 339 MiB with 137,088.
_HEAD_BYTES_A_BLOCK = 1600


class StageEstimate(Section):
    """The estimated needs of one stage. `seconds`: from its first block to its last, if no other stage runs meanwhile.

    `disk_bytes` has the bytes of each artifact, `peak_mib` is the memory of one worker. `jobs` is 0 without a cluster.
    `hosts` measured it, in jobs of `kind`, or in processes of the command if that is empty. `device` is `cpu`, or the
    GPU that predicted in the measurement.
    """

    stage: str
    blocks: int
    workers: int
    seconds: float
    core_hours: float
    gpu_hours: float
    disk_bytes: dict[str, int]
    files: int
    peak_mib: int
    jobs: int = 0
    kind: str = ""
    hosts: tuple[str, ...] = ()
    device: str = "cpu"

    def cost(self, gpu_hour: float, core_hour: float) -> float:
        """Return the cost at the prices of an hour of a GPU and of a core."""
        return self.gpu_hours * gpu_hour + self.core_hours * core_hour


class Estimate(Section):
    """The estimated needs of a whole run. `peak_disk_bytes`, `files`: of all artifacts, the most during the run.

    `is_streamed`: affinities are deleted during the run (--keep stream).
    """

    stages: tuple[StageEstimate, ...]
    probed_blocks: tuple[int, ...]
    seconds: float
    core_hours: float
    gpu_hours: float
    peak_disk_bytes: int
    files: int
    worker_peak_mib: int
    head_peak_mib: int
    is_streamed: bool = False

    @property
    def disk_by_artifact(self) -> dict[str, int]:
        """The bytes of each artifact, by its name."""
        names = dict.fromkeys(name for row in self.stages for name in row.disk_bytes)
        return {name: sum(row.disk_bytes.get(name, 0) for row in self.stages) for name in names}


@dataclass(frozen=True)
class Setting:
    """Cluster and head of a run. `head_s` and `head_mib`: time before its first block, and memory of the head."""

    site: Site = NO_SITE
    gpus: int | None = None
    is_streamed: bool = False
    head_s: float = 0.0
    head_mib: int = 0


def estimated(plan: Plan, workspace: Workspace, measured: Mapping[str, Probed], setting: Setting) -> Estimate:
    """Return the estimate of a run of all stages, from measurements at some of its blocks.

    `measured` has the measurements for each stage, by its name without a number. Those on other machines also contain
    the other stages, which are not used.
    """
    inside = inside_mask(plan.lattice)
    stages = plan.stages(workspace)
    of_stage = {stage.name: measured[stage.name.split("-")[0]] for stage in stages}
    rows = {stage.name: _stage_estimate(stage, plan, of_stage[stage.name], inside, setting) for stage in stages}
    starts = {stage.name: min(each.start_s for each in _of(stage, of_stage[stage.name].probes)) for stage in stages}
    groups = [[stage.name for stage in group] for group in in_groups(stages)]
    seconds = sum(_seconds_of_group(group, rows, starts, plan) for group in groups)
    blocks = max(sum(rows[name].blocks for name in group) for group in groups)
    every = list(rows.values())
    return Estimate(
        stages=tuple(every),
        probed_blocks=tuple(probe.block for probe in of_stage[stages[0].name].probes),
        seconds=setting.head_s + max(each.worker_s for each in of_stage.values()) + seconds,
        core_hours=sum(row.core_hours for row in every),
        gpu_hours=sum(row.gpu_hours for row in every),
        peak_disk_bytes=round(most_at_a_time(stages, {row.stage: sum(row.disk_bytes.values()) for row in every})),
        files=round(most_at_a_time(stages, {row.stage: row.files for row in every})) + _LEDGER_FILES * len(every),
        worker_peak_mib=max(row.peak_mib for row in every),
        head_peak_mib=setting.head_mib + math.ceil(blocks * _HEAD_BYTES_A_BLOCK / 2**20),
        is_streamed=setting.is_streamed,
    )


def _stage_estimate(stage: Stage, plan: Plan, measured: Probed, inside: Inside, setting: Setting) -> StageEstimate:
    probes = measured.probes
    found = _of(stage, probes)
    blocks, work, size, most = _scale_of(stage, plan, probes, inside)
    work_s = sum(each.seconds for each in found) * work / max(1, sum(each.work for each in found))
    workers = min(_workers(stage, plan, setting), max(1, blocks))
    requested = setting.site.resources(stage.name)
    is_on_gpu = stage.name == PREDICTING and (plan.device.startswith("cuda") or requested.gpus > 0)
    disk, files = _disk(stage, found, size, blocks)
    if setting.is_streamed and stage.name == PREDICTING:
        held = min(1.0, blocks_held(stage.lattice) / max(1, blocks))
        disk = {name: round(each * held) for name, each in disk.items()}
    return StageEstimate(
        stage=stage.name,
        blocks=blocks,
        workers=workers,
        # With few blocks, some workers have one more than others.
        seconds=work_s / max(1, blocks) * math.ceil(blocks / workers),
        core_hours=work_s / _HOUR_S * requested.cpus,
        gpu_hours=work_s / _HOUR_S * max(1, requested.gpus) if is_on_gpu else 0.0,
        disk_bytes=disk,
        files=files,
        peak_mib=_peak_mib(stage, probes, most),
        jobs=workers if plan.executor in CLUSTERS else 0,
        kind=measured.kind,
        hosts=tuple(sorted({probe.host for probe in probes})),
        device=probes[0].device if stage.name == PREDICTING else "cpu",
    )


def _of(stage: Stage, probes: Sequence[Probe]) -> list[Measured]:
    """Return the measurements of a stage. Levels of groups, and of a pyramid, share those of the small region."""
    found = []
    for probe in probes:
        alike = [each for each in probe.stages if each.stage.split("-")[0] == stage.name.split("-")[0]]
        # Groups above the first level read only a part of the edges that are counted.
        same = [] if isinstance(stage, AgglomerationStage) else [each for each in alike if each.stage == stage.name]
        found += same or alike[:1]
    return found


def _scale_of(stage: Stage, plan: Plan, probes: Sequence[Probe], inside: Inside) -> tuple[int, int, int, int]:
    """Return the blocks of a stage, its total work and size (see Measured), and the work of its largest block."""
    lattice = stage.lattice
    if is_of_tables(stage):
        voxels = voxel_count(plan.lattice) * inside.voxels
        edges = round(sum(probe.edges for probe in probes) / sum(probe.voxels for probe in probes) * voxels)
        if isinstance(stage, AgglomerationStage):
            edges = round(edges * (_WAITING + (1 - _WAITING) * _LEFT_BY_A_LEVEL ** (stage.level - 1)))
        blocks = block_count(lattice)
        return blocks, edges, edges, -(-edges // max(1, blocks))
    work = work_of(stage)
    blocks = round(block_count(lattice) * inside.blocks)
    total, size = summed(lattice, work) * inside.voxels, voxel_count(lattice) * inside.voxels
    if isinstance(stage, PyramidStage):
        share = 1 / math.prod(stage.levels.factors)  # a second pass reads a coarse level
        total, size = total * share, size * share
    return blocks, round(total), round(size), largest(lattice, work)


def _workers(stage: Stage, plan: Plan, setting: Setting) -> int:
    """Return the number of workers that process a stage at a time."""
    if plan.executor == "serial":
        return 1
    if stage.name == PREDICTING and setting.gpus:
        return setting.gpus
    if plan.executor in CLUSTERS:
        return plan.workers or setting.site.resources(stage.name).workers or DEFAULT_JOBS
    return plan.prediction_workers if stage.name == PREDICTING else plan.workers


def _disk(stage: Stage, found: Sequence[Measured], size: int, blocks: int) -> tuple[dict[str, int], int]:
    """Return the bytes of each artifact of a stage, and the number of its files."""
    measured = sum(each.size for each in found)
    totals: dict[str, int] = {}
    for each in found:
        for name, (_, length) in each.stored.items():
            totals[_artifact(name)] = totals.get(_artifact(name), 0) + length
    disk = {name: round(length * size / max(1, measured)) for name, length in totals.items()}
    files = sum(1 if "." in name and is_of_tables(stage) else blocks for name in totals)
    return disk, files


def _artifact(name: str) -> str:
    """Return the name of an artifact. An unfinished segmentation has another one."""
    return "segmentation.zarr" if ".partial.zarr" in name else name


def _peak_mib(stage: Stage, probes: Sequence[Probe], most: int) -> int:
    """Return the peak memory of a worker with the largest block. What exceeds the memory before it grows with it.

    A worker keeps what earlier stages have freed, so the memory before a stage never falls. The network is an
    exception: its memory is released.
    """
    peaks = []
    for probe in probes:
        (own,) = _of(stage, [probe])
        before = [row.base_mib for row in probe.stages[: probe.stages.index(own)] if row.stage != PREDICTING]
        more = own.more_mib * most / max(1, own.work)
        if is_of_tables(stage):  # the small tables of a probe need more memory for each row
            more = min(more, own.more_mib + most * _PEAK_BYTES_OF_AN_EDGE[stage.name.split("-")[0]] / 2**20)
        peaks.append(max([own.base_mib, *before]) + more)
    return round(max(peaks))


def _seconds_of_group(
    names: Sequence[str], rows: Mapping[str, StageEstimate], starts: Mapping[str, float], plan: Plan
) -> float:
    """Return the time of stages that run together. If prediction has its own workers, the others run meanwhile."""
    times = {name: rows[name].seconds + starts[name] for name in names}
    rest = sum(seconds for name, seconds in times.items() if name != PREDICTING)
    predicting = times.get(PREDICTING, 0.0)
    has_own_workers = plan.device.startswith("cuda") or plan.executor in CLUSTERS
    return max(predicting, rest) if has_own_workers else predicting + rest

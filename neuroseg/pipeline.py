"""Joins the rooms: blockwise through the stages, and in memory for training's validation and notebooks."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from neuroseg.blocks import Block
from neuroseg.errors import BlocksFailedError, InputError, unknown_name
from neuroseg.execution.local import LocalExecutor
from neuroseg.execution.serial import SerialExecutor
from neuroseg.execution.work import Executor, peak_memory_mib
from neuroseg.memory import segmentation_of as segmentation_of
from neuroseg.options import Options
from neuroseg.plan import PREDICTION, Plan, hash_of, read_options, read_plan, workspace_of, write_plan
from neuroseg.resolve import resolve
from neuroseg.stage import Stage
from neuroseg.storage.ledger import StageLedger
from neuroseg.storage.publish import publish_text
from neuroseg.storage.workspace import Workspace, default_workspace, is_workspace

_RESTARTABLE = ("affinities", "fragments", "edges", "agglomeration", "relabel")
_REDONE_WITHOUT_ASKING = ("lookup", "relabel", "pyramid")
_LISTED_FAILURES = 10

Begin = Callable[[str, int, int], Callable[[int, int], None]]
"""begin(stage, blocks to do, their voxels) returns the function that is told (blocks done, blocks failed)."""


@dataclass(frozen=True)
class StageSummary:
    """What one stage did in this run; `blocks` is 0 where everything was done before."""

    stage: str
    blocks: int
    voxels: int
    seconds: float
    peak_mib: int


Outcome = tuple[Workspace, list[StageSummary]]


def silent(stage: str, blocks: int, voxels: int) -> Callable[[int, int], None]:
    """Return an observer that shows nothing."""
    return lambda done, failed: None


def prepare_run(options: Options, *, resume_input: bool = False) -> tuple[Workspace, Plan]:
    """Return workspace and plan of `options`; with `resume_input` the volume may be a workspace, or have one.

    A workspace remembers the options of its last run (not its region of interest): those given now win.
    """
    given = options
    if options.volume and is_workspace(Path(options.volume)):
        if not resume_input:
            raise InputError(f"{options.volume} is a workspace; give the volume (neuroseg segment takes workspaces)")
        workspace = Workspace(Path(options.volume))
        options = options.model_copy(update={"volume": None})
    elif options.volume:
        workspace = workspace_of(options, default_workspace(options.volume))
    elif options.output:
        workspace = Workspace(Path(options.output))
    else:
        raise InputError("say where the result goes: -o WORKSPACE")
    if is_workspace(workspace.path):
        remembered = read_options(workspace).model_dump(exclude_none=True, exclude_defaults=True)
        if not resume_input:
            remembered.pop("roi", None)
        now = options.model_dump(exclude_none=True, exclude_defaults=True)
        options = Options.model_validate({**remembered, **now})
    elif workspace.path.exists() and any(workspace.path.iterdir()):
        raise InputError(f"{workspace.path} exists and is not a workspace; choose another with -o")
    elif resume_input and given.volume:
        raise InputError(f"{workspace.path} does not exist: run neuroseg predict {given.volume} first")
    return workspace, resolve(options, workspace)


def predict(options: Options, *, restart: str | None = None, begin: Begin = silent) -> Outcome:
    """Predict the affinities of a volume; returns the workspace and what was done."""
    workspace, plan = prepare_run(options)
    return workspace, _execute(workspace, plan, options, ["affinities"], restart, begin)


def segment(options: Options, *, restart: str | None = None, begin: Begin = silent) -> Outcome:
    """Segment the affinities in a workspace, or affinities or boundaries from elsewhere."""
    workspace, plan = prepare_run(options, resume_input=not (options.affinities or options.boundaries))
    return workspace, _execute(workspace, plan, options, ["segmentation"], restart, begin)


def run(options: Options, *, restart: str | None = None, begin: Begin = silent) -> Outcome:
    """Predict and segment."""
    workspace, plan = prepare_run(options)
    return workspace, _execute(workspace, plan, options, ["affinities", "segmentation"], restart, begin)


def _execute(
    workspace: Workspace, plan: Plan, options: Options, parts: Sequence[str], restart: str | None, begin: Begin
) -> list[StageSummary]:
    if restart is not None and restart not in (*_RESTARTABLE, "all"):
        raise unknown_name("stage to restart", restart, [*_RESTARTABLE, "all"])
    predicting = plan.kind == "raw"
    stages: list[Stage] = [plan.affinities_stage(workspace)] if predicting and "affinities" in parts else []
    with workspace.locked():
        if restart is not None:
            _forget(workspace, plan, restart)
        if "segmentation" in parts:
            if predicting and "affinities" not in parts:
                _require_affinities(workspace, plan)
            stages += plan.segmentation_stages(workspace)
        _claim(workspace, stages)
        remembered = read_options(workspace) if is_workspace(workspace.path) else Options()
        merged = {
            **remembered.model_dump(exclude_none=True, exclude_defaults=True),
            **options.model_dump(exclude_none=True, exclude_defaults=True),
        }
        if "volume" in merged and is_workspace(Path(merged["volume"])):
            merged["volume"] = plan.path
        write_plan(workspace, plan, Options.model_validate(merged))
        return _run_all(workspace, plan, stages, begin)


def _claim(workspace: Workspace, stages: Sequence[Stage]) -> None:
    """Record every stage's identity before any runs; refuse when one differs from what is stored."""
    for stage in stages:
        ledger = _ledger(workspace, stage)
        if stage.name.split("-")[0] in _REDONE_WITHOUT_ASKING and not ledger.is_same():
            ledger.forget()
        ledger.claim()


def _run_all(workspace: Workspace, plan: Plan, stages: Sequence[Stage], begin: Begin) -> list[StageSummary]:
    summaries = []
    views = [stage for stage in stages if stage.name.startswith(("relabel", "pyramid"))]
    published = workspace.path / "ledger" / "relabel" / "published"
    wanted = hash_of({"views": [dict(stage.identity) for stage in views], "roi": plan.roi})
    fresh = not (workspace.segmentation.exists() and published.exists() and published.read_text() == wanted)
    if views and fresh and not workspace.segmentation_aside.exists():
        for stage in views:
            _ledger(workspace, stage).forget_blocks()
    for stage in stages:
        if stage in views and not fresh:
            summaries.append(StageSummary(stage.name, 0, 0, 0.0, 0))
            continue
        summaries.append(_run_stage(workspace, plan, stage, begin))
    if views and fresh:
        from neuroseg.segmentation.stage import PyramidStage, list_levels

        levels = [stage for stage in views if isinstance(stage, PyramidStage)]
        list_levels(workspace.segmentation_aside, levels, plan.voxel_size_nm, plan.offset_nm)
        workspace.publish_segmentation()
        publish_text(published, wanted)
    return summaries


def _run_stage(workspace: Workspace, plan: Plan, stage: Stage, begin: Begin) -> StageSummary:
    """Run what is pending of one stage; raises BlocksFailedError when some of it failed."""
    started = time.monotonic()
    ledger = _ledger(workspace, stage)
    pending = ledger.pending(list(stage.lattice.blocks(stage.halo)))
    if not pending:
        return StageSummary(stage.name, 0, 0, 0.0, 0)
    stage.prepare()
    voxels = sum(block.write_roi.size for block in pending)
    observe = begin(stage.name, len(pending), voxels)
    before = {record["time"] for record in ledger.records()}
    _executor(workspace, plan, stage, pending).run(stage, pending, ledger, observe)
    failed = ledger.pending(pending)
    if failed:
        raise BlocksFailedError(_failure_report(stage, failed, ledger))
    peaks = [int(record["peak_mib"]) for record in ledger.records() if record["time"] not in before]
    peak = max(peaks, default=peak_memory_mib())
    return StageSummary(stage.name, len(pending), voxels, time.monotonic() - started, peak)


def _executor(workspace: Workspace, plan: Plan, stage: Stage, pending: Sequence[Block]) -> Executor:
    """Return the plan's executor; one block alone is not worth the start of a worker."""
    workers = plan.prediction_workers if stage.name in PREDICTION else plan.workers
    if plan.executor == "serial" or len(pending) == 1:
        return SerialExecutor()
    return LocalExecutor(workspace.path, workers, workspace.logs)


def _failure_report(stage: Stage, failed: Sequence[Block], ledger: StageLedger) -> str:
    causes = ledger.failures()
    lines = [
        causes.get(block.index, f"stage {stage.name}, block {block.index}: its worker died").splitlines()[0]
        for block in failed[:_LISTED_FAILURES]
    ]
    more = f"\n  and {len(failed) - _LISTED_FAILURES} more" if len(failed) > _LISTED_FAILURES else ""
    listed = "\n  ".join(lines)
    return (
        f"{len(failed)} blocks of stage {stage.name} failed:\n  {listed}{more}\n"
        f"The others are done; run the same command again to redo only these. Details: {ledger.folder / 'failed'}"
    )


def _require_affinities(workspace: Workspace, plan: Plan) -> None:
    """Raise InputError unless the run's affinities are complete."""
    stage = plan.affinities_stage(workspace)
    ledger = _ledger(workspace, stage)
    left = len(ledger.pending(list(stage.lattice.blocks(stage.halo))))
    if left:
        raise InputError(f"{left} blocks of affinities are missing; run neuroseg predict {plan.path} first")


def _forget(workspace: Workspace, plan: Plan, restart: str) -> None:
    """Remove the marks and artifacts of a stage and of all that follow."""
    stages: list[Stage] = [plan.affinities_stage(workspace)] if plan.kind == "raw" else []
    stages += plan.segmentation_stages(workspace)
    names = [stage.name for stage in stages]
    first = 0 if restart == "all" or restart not in names else names.index(restart)
    for stage in stages[first:]:
        _ledger(workspace, stage).forget()
        for output in stage.outputs:
            path = workspace.path / output
            if output == "segmentation.zarr":
                path = workspace.segmentation_aside
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _ledger(workspace: Workspace, stage: Stage) -> StageLedger:
    return workspace.ledger(stage.name, stage.identity, stage.scope)


def workspace_at(path: str) -> tuple[Workspace, Plan]:
    """Return a workspace that exists, and its plan."""
    workspace = Workspace(Path(path))
    return workspace, read_plan(workspace)

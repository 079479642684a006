"""Run a group of stages: run the pending blocks, recompute damaged inputs, report failed blocks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from neuroseg.blocks import Block, voxels_of
from neuroseg.errors import BlocksFailedError, DamagedError, DiskFullError
from neuroseg.execution.block import ledger_of
from neuroseg.execution.failures import describe_failure, distinct_causes, failure_folder, forget_failures, newest_log
from neuroseg.execution.task import Begin, Choose, Task
from neuroseg.runs.damage import counted, recompute_damaged, recompute_vanished_inputs
from neuroseg.runs.pending import Pending, released_inputs, still_pending
from neuroseg.stage import Stage
from neuroseg.storage.half_written import remove_half_written
from neuroseg.storage.ledger import StageLedger
from neuroseg.storage.space import DISK_FULL, free_bytes, is_full, readable
from neuroseg.storage.stored import remove_tables_of
from neuroseg.storage.workspace import Workspace

_LISTED_FAILURES = 10
_RETRY = "run the same command again; it retries only blocks that are not done"
# How often a group runs because its inputs vanished while it ran.
_MAX_ROUNDS = 3


@dataclass(frozen=True)
class StageSummary:
    """The result of one stage in this run. `blocks` is 0 if all blocks were already done.

    `seconds` is the time from its first block to its last. `outside` counts the blocks that the mask excludes.
    `peak_disk_bytes` is the maximum size of its artifact if that was deleted during the run (--keep stream), else 0.
    """

    stage: str
    blocks: int
    voxels: int
    seconds: float
    peak_mib: int
    outside: int = 0
    peak_disk_bytes: int = 0


Attach = Callable[[Sequence[Task]], Sequence[Task]]
"""attach(tasks) returns the tasks with callbacks for their done blocks."""


def run_stages(
    workspace: Workspace,
    every: Sequence[Stage],
    pending: Sequence[Pending],
    choose: Choose,
    begin: Begin,
    attach: Attach = lambda tasks: tasks,
) -> list[StageSummary]:
    """Run the pending blocks of a group of stages, which are some of `every` stage.

    Recomputes damaged inputs that earlier stages wrote, then retries the failed blocks. Recomputes blocks whose inputs
    vanished while they ran. Raises BlocksFailedError if blocks failed for another reason.
    """
    stages = [each.stage for each in pending]
    for _ in range(_MAX_ROUNDS):
        try:
            summaries = _run_once(workspace, every, pending, choose, begin, attach)
        except (BlocksFailedError, DamagedError) as error:
            failed = [each for each in pending if ledger_of(workspace, each.stage).failed()] or pending[:1]
            recomputed = [
                recompute_damaged(workspace, every, stages, each.stage, each.blocks, choose, begin, error)
                for each in failed
            ]
            if not any(recomputed):
                raise
            left = still_pending(workspace, stages)
            summaries = _run_once(workspace, every, left, choose, begin, attach)
        if not recompute_vanished_inputs(workspace, every, stages, choose, begin):
            for stage in stages:
                ledger_of(workspace, stage).verify()
            return summaries
        pending = still_pending(workspace, stages)
    raise DamagedError(
        f"files that stage {stages[-1].name} reads were removed {_MAX_ROUNDS} times while it ran",
        hint=f"check which program removes files in {workspace.path}, then run the same command again",
    )


def _run_once(
    workspace: Workspace,
    every: Sequence[Stage],
    pending: Sequence[Pending],
    choose: Choose,
    begin: Begin,
    attach: Attach,
) -> list[StageSummary]:
    """Run the pending blocks of the stages. Raises BlocksFailedError if blocks failed."""
    began = time.time()
    for each in pending:
        if lost := released_inputs(workspace, every, each.stage, each.blocks):
            raise DamagedError(f"stage {each.stage.name} reads blocks of {lost[0][0].name} that were deleted")
    for each in pending:
        _prepare(workspace, each)
    timers = {each.stage.name: _Timer(begin, each) for each in pending if each.blocks}
    tasks = attach(
        [
            Task(each.stage, each.blocks, ledger_of(workspace, each.stage), timers[each.stage.name])
            for each in pending
            if each.blocks
        ]
    )
    _run_tasks(workspace, tasks, choose)
    for timer in timers.values():
        timer.end()
    left = {task.name: task.ledger.pending(task.blocks) for task in tasks}
    if reports := [report for task in tasks if (report := _failures(workspace, task, left[task.name]))]:
        raise BlocksFailedError("\n".join(reports), hint=_RETRY)
    if skipped := [name for name, blocks in left.items() if blocks]:
        raise BlocksFailedError(f"the executor skipped {counted(left[skipped[0]])} of stage {skipped[0]}", hint=_RETRY)
    return [
        _summary(workspace, each, began, timers.get(each.stage.name), is_first=each is pending[0]) for each in pending
    ]


def _run_tasks(workspace: Workspace, tasks: Sequence[Task], choose: Choose) -> None:
    """Run the tasks and clean up after them."""
    try:
        if tasks:
            choose(tasks).run(tasks)
    except DiskFullError as error:
        full = next((task for task in tasks if _full_disk(task.ledger)), tasks[0])
        raise _disk_full(workspace, full.stage, full.ledger, len(full.ledger.pending(full.blocks))) from error
    finally:
        for task in tasks:
            _clean_up(workspace, task.stage, task.ledger)


class _Timer:
    """Shows the progress of a stage, and records the time of its first and last block."""

    def __init__(self, begin: Begin, pending: Pending) -> None:
        self._show = begin(pending.stage.name, len(pending.blocks), _voxels(pending))
        self._began, self._blocks = time.monotonic(), len(pending.blocks)
        self._known = self._failed = 0
        self._first = self._last = self._began

    def __call__(self, done: int, failed: int) -> None:
        if done + failed > self._known:
            self._last = time.monotonic()
            self._first = self._last if self._known == 0 else self._first
        self._known, self._failed = done + failed, failed
        self._show(done, failed)

    def end(self) -> None:
        """Show the end of the stage. Blocks that still wait for others count as failed."""
        if self._known < self._blocks:
            self._show(self._known - self._failed, self._blocks - self._known + self._failed)

    def seconds(self, of_first: float | None) -> float:
        """Return the duration from the beginning, or from `of_first` seconds before the end of the first block."""
        return self._last - (self._began if of_first is None else max(self._began, self._first - of_first))


def _prepare(workspace: Workspace, pending: Pending) -> None:
    """Clean up after a killed run, and create the outputs before the first block runs."""
    stage, ledger = pending.stage, ledger_of(workspace, pending.stage)
    _clean_up(workspace, stage, ledger)
    ledger.claim()
    if not pending.blocks:
        return
    ledger.clear(pending.blocks)
    # Remove the parts of an earlier run: a later stage must not read them before they are rewritten.
    remove_tables_of([workspace.artifact(name) for name in stage.outputs], pending.blocks)
    forget_failures(workspace, stage.name)
    stage.prepare()


def _voxels(pending: Pending) -> int:
    return voxels_of(pending.blocks)


def _failures(workspace: Workspace, task: Task, left: Sequence[Block]) -> str:
    """Return a report of the failed blocks among those left, or "". Blocks that wait for failed ones are not listed."""
    causes = task.ledger.failures()
    if left and (is_full(workspace.path) or _full_disk(task.ledger)):
        raise _disk_full(workspace, task.stage, task.ledger, len(left))
    failed = [block for block in left if block.index in causes]
    _describe_dead_workers(workspace, task.stage, failed)
    return _failure_report(task.stage, failed, task.ledger, causes) if failed else ""


def _full_disk(ledger: StageLedger) -> str:
    """Return the cause of a block that failed because the disk was full, or an empty string."""
    return next((cause for cause in ledger.failures().values() if DISK_FULL in cause), "")


def _summary(
    workspace: Workspace, pending: Pending, began: float, timer: _Timer | None, *, is_first: bool
) -> StageSummary:
    stage = pending.stage
    outside = stage.lattice.touching - len(stage.lattice.blocks())
    if timer is None:
        return StageSummary(stage.name, 0, 0, 0.0, 0, outside)
    records = ledger_of(workspace, stage).done_records()
    ran = records.where(records.times >= began)
    peak = int(ran.peak_mib.max(initial=0))
    seconds = timer.seconds(None if is_first else float(ran.seconds.min()) if len(ran) else 0.0)
    return StageSummary(stage.name, len(pending.blocks), _voxels(pending), seconds, peak, outside)


def _clean_up(workspace: Workspace, stage: Stage, ledger: StageLedger) -> None:
    """Remove the half-written files and the running marks of interrupted blocks."""
    every = stage.lattice.blocks(stage.halo)
    blocks = every.where(np.isin(every.indices, ledger.interrupted()))
    remove_half_written([workspace.artifact(name) for name in stage.outputs], blocks)
    with suppress(DiskFullError):  # the marks that stay do no harm
        ledger.end()


def _disk_full(workspace: Workspace, stage: Stage, ledger: StageLedger, left: int) -> DiskFullError:
    """Return the error of a full disk: the disk that made a block fail, or that of the workspace."""
    full = f"{DISK_FULL}: {workspace.path} has {readable(free_bytes(workspace.path))} free"
    if cause := _full_disk(ledger):
        full = cause[cause.index(DISK_FULL) :].splitlines()[0]
    return DiskFullError(
        f"{full}; {left} {'block' if left == 1 else 'blocks'} of stage {stage.name} not done",
        hint="free disk space, then run the same command again; it continues where it stopped",
    )


def _describe_dead_workers(workspace: Workspace, stage: Stage, failed: Sequence[Block]) -> None:
    """Describe blocks whose workers died without a report. The traceback is unknown."""
    for block in failed[:_LISTED_FAILURES]:
        if not failure_folder(workspace.path, stage.name, block.index).exists():
            describe_failure(workspace, stage, block, "its worker died\n", log=newest_log(workspace))


def _failure_report(stage: Stage, failed: Sequence[Block], ledger: StageLedger, causes: Mapping[int, str]) -> str:
    """Return which blocks failed and why. Each distinct cause appears once."""
    texts = [text for text, _ in distinct_causes({block.index: causes[block.index] for block in failed})]
    more = f"\n  and {len(texts) - _LISTED_FAILURES} more causes" if len(texts) > _LISTED_FAILURES else ""
    listed, first = "\n  ".join(texts[:_LISTED_FAILURES]), failed[0].index
    return (
        f"{counted(failed)} of stage {stage.name} failed:\n  {listed}{more}\n"
        f"details: {failure_folder(ledger.run_folder, stage.name, first)}\n"
        f"to debug block {first}, run: neuroseg replay {ledger.run_folder} {stage.name} {first}"
    )

"""Stages that run together: what is pending is run, what they find damaged is made again, what failed is reported."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from neuroseg.blocks import Block
from neuroseg.errors import BlocksFailedError, DamagedError, DiskFullError
from neuroseg.execution.block import ledger_of
from neuroseg.execution.failures import alike, also, describe_failure, failure_folder, forget_failures, newest_log
from neuroseg.execution.task import Begin, Choose, Task
from neuroseg.geometry import describe
from neuroseg.runs.damage import counted, recompute_damaged, recompute_vanished_inputs
from neuroseg.runs.pending import Pending, released_inputs, still_pending
from neuroseg.stage import Stage
from neuroseg.storage.half_written import remove_half_written
from neuroseg.storage.ledger import StageLedger
from neuroseg.storage.space import DISK_FULL, free_bytes, is_full, readable
from neuroseg.storage.stored import remove_parts
from neuroseg.storage.workspace import Workspace

_LISTED_FAILURES = 10
# How often a stage is done again because what it reads went missing while it ran.
_MAX_ROUNDS = 3


@dataclass(frozen=True)
class StageSummary:
    """What one stage did in this run; `blocks` is 0 where everything was done before.

    `seconds` from its first block to its last; `outside` counts the blocks that the mask left out. `peak_disk_bytes` is
    what its artifact occupied at most where it was released as the run went on, else 0.
    """

    stage: str
    blocks: int
    voxels: int
    seconds: float
    peak_mib: int
    outside: int = 0
    peak_disk_bytes: int = 0


Attach = Callable[[Sequence[Task]], Sequence[Task]]
"""Given tasks before they run; returns them with what shall be called when their blocks are done."""


def run_stages(
    workspace: Workspace,
    every: Sequence[Stage],
    pending: Sequence[Pending],
    choose: Choose,
    begin: Begin,
    attach: Attach = lambda tasks: tasks,
) -> list[StageSummary]:
    """Run what is pending of some of `every` stage together, after making again what they find damaged of earlier ones.

    Blocks whose input went missing while they ran are done once more. Raises BlocksFailedError when some blocks failed
    for another reason.
    """
    stages = [each.stage for each in pending]
    for _ in range(_MAX_ROUNDS):
        try:
            summaries, complete = _run_once(workspace, every, pending, choose, begin, attach)
        except (BlocksFailedError, DamagedError) as error:
            failed = [each for each in pending if ledger_of(workspace, each.stage).failed()] or pending[:1]
            recomputed = [
                recompute_damaged(workspace, every, stages, each.stage, each.blocks, choose, begin, error)
                for each in failed
            ]
            if not any(recomputed):
                raise
            left = still_pending(workspace, stages)
            summaries, complete = _run_once(workspace, every, left, choose, begin, attach)
        if not recompute_vanished_inputs(workspace, every, stages, choose, begin) and complete:
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
) -> tuple[list[StageSummary], bool]:
    """Run what is pending of the stages; returns what was done, and whether it is all.

    A worker that was given up may have done its block after those that need it were left out. Raises BlocksFailedError
    when some of it failed.
    """
    began = time.time()
    for each in pending:
        if lost := released_inputs(workspace, every, each.stage, each.blocks):
            raise DamagedError(f"stage {each.stage.name} would read blocks of {lost[0][0].name} that were deleted")
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
    done = _run_tasks(workspace, tasks, choose)
    for timer in timers.values():
        timer.end()
    reports: list[str] = []
    short = [task for task, count in zip(tasks, done, strict=True) if count < len(task.blocks)]
    for task in short:
        reports += _failures(workspace, task, timers[task.name].failed)
    if reports:
        raise BlocksFailedError("\n".join(reports))
    summaries = [
        _summary(workspace, each, began, timers.get(each.stage.name), is_first=each is pending[0]) for each in pending
    ]
    return summaries, not short


def _run_tasks(workspace: Workspace, tasks: Sequence[Task], choose: Choose) -> list[int]:
    """Run tasks and clear up after them; returns how many blocks of each were reported as done."""
    try:
        return choose(tasks).run(tasks) if tasks else []
    except DiskFullError as error:
        full = next((task for task in tasks if _full_disk(task.ledger)), tasks[0])
        raise _disk_full(workspace, full.stage, full.ledger, len(full.ledger.pending(full.blocks))) from error
    finally:
        for task in tasks:
            _clean_up(workspace, task.stage, task.ledger)


class _Timer:
    """Shows what is done of a stage, and notes when the first and the last block of it were."""

    def __init__(self, begin: Begin, pending: Pending) -> None:
        self._show = begin(pending.stage.name, len(pending.blocks), _voxels(pending))
        self._began, self._blocks = time.monotonic(), len(pending.blocks)
        self._known = self.failed = 0
        self._first = self._last = self._began

    def __call__(self, done: int, failed: int) -> None:
        if done + failed > self._known:
            self._last = time.monotonic()
            self._first = self._last if self._known == 0 else self._first
        self._known, self.failed = done + failed, failed
        self._show(done, failed)

    def end(self) -> None:
        """Show that nothing goes on, also where blocks are left that wait for others."""
        if self._known < self._blocks:
            self._show(self._known - self.failed, self._blocks - self._known + self.failed)

    def seconds(self, of_first: float | None) -> float:
        """Return how long it took, from the beginning, or from `of_first` seconds before the first block was done."""
        return self._last - (self._began if of_first is None else max(self._began, self._first - of_first))


def _prepare(workspace: Workspace, pending: Pending) -> None:
    """Clear up after a run that was killed, and have everything there before the first block is handed out."""
    stage, ledger = pending.stage, ledger_of(workspace, pending.stage)
    _clean_up(workspace, stage, ledger)
    ledger.claim()
    if not pending.blocks:
        return
    ledger.clear(pending.blocks)
    # A later block may look for a part before it is made: one of an earlier run must not be taken for it.
    remove_parts([workspace.artifact(name) for name in stage.outputs], pending.blocks)
    forget_failures(workspace, stage.name)
    stage.prepare()


def _voxels(pending: Pending) -> int:
    return sum(block.voxels for block in pending.blocks)


def _failures(workspace: Workspace, task: Task, given_up: int) -> list[str]:
    """Return what failed of a task and why; where fewer blocks are `given_up` than left, others wait for them."""
    # What the workers reported counts; the marks are only asked what is left, and network disks list them late.
    task.ledger.refresh()
    # A worker that was given up may have ended its block after all.
    left, causes = task.ledger.pending(task.blocks), task.ledger.failures()
    if left and (is_full(workspace.path) or _full_disk(task.ledger)):
        raise _disk_full(workspace, task.stage, task.ledger, len(left))
    failed = left if len(left) <= given_up else [block for block in left if block.index in causes]
    _describe_dead_workers(workspace, task.stage, failed)
    return [_failure_report(task.stage, failed, task.ledger, causes)] if failed else []


def _full_disk(ledger: StageLedger) -> str:
    """Return the cause of a failure that was a full disk, where there is one."""
    return next((cause for cause in ledger.failures().values() if DISK_FULL in cause), "")


def _summary(
    workspace: Workspace, pending: Pending, began: float, timer: _Timer | None, *, is_first: bool
) -> StageSummary:
    stage = pending.stage
    outside = len(stage.lattice.indices_touching(stage.lattice.roi)) - len(stage.lattice.indices())
    if timer is None:
        return StageSummary(stage.name, 0, 0, 0.0, 0, outside)
    ran = [record for record in ledger_of(workspace, stage).records() if record["time"] >= began]
    peak = max((int(record["peak_mib"]) for record in ran), default=0)
    seconds = timer.seconds(None if is_first else min((float(record["seconds"]) for record in ran), default=0.0))
    return StageSummary(stage.name, len(pending.blocks), _voxels(pending), seconds, peak, outside)


def _clean_up(workspace: Workspace, stage: Stage, ledger: StageLedger) -> None:
    """Remove what was being written of blocks that are in hand no more, and forget that they were."""
    known = set(stage.lattice.indices())
    blocks = [stage.lattice.block(index, stage.halo) for index in ledger.interrupted() if index in known]
    remove_half_written([workspace.artifact(name) for name in stage.outputs], ledger.folder, blocks)
    ledger.end()


def _disk_full(workspace: Workspace, stage: Stage, ledger: StageLedger, left: int) -> DiskFullError:
    """Return the error of a disk that is full: the one that a block failed of, else the workspace's."""
    full = f"{DISK_FULL}: {workspace.path} has {readable(free_bytes(workspace.path))} free"
    if cause := _full_disk(ledger):
        full = cause[cause.index(DISK_FULL) :].splitlines()[0]
    return DiskFullError(
        f"{full}; {left} {'block' if left == 1 else 'blocks'} of stage {stage.name} are left. Make space, then run the "
        "same command again: it continues where it stopped"
    )


def _describe_dead_workers(workspace: Workspace, stage: Stage, failed: Sequence[Block]) -> None:
    """Describe blocks whose workers died without a word, as far as it can be told from here."""
    for block in failed[:_LISTED_FAILURES]:
        if not failure_folder(workspace.path, stage.name, block.index).exists():
            describe_failure(workspace, stage, block, "its worker died\n", log=newest_log(workspace))


def _failure_report(stage: Stage, failed: Sequence[Block], ledger: StageLedger, causes: Mapping[int, str]) -> str:
    """Return which blocks failed and why, a reason that many share once."""
    first_line = {block.index: _cause(stage, block, causes).splitlines()[0] for block in failed}
    lines = [f"{reason}{also(others)}" for reason, _, others in alike(first_line)]
    more = f"\n  and {len(lines) - _LISTED_FAILURES} more reasons" if len(lines) > _LISTED_FAILURES else ""
    listed = "\n  ".join(lines[:_LISTED_FAILURES])
    again = "Run the same command again to redo them"
    if len(failed) < len(stage.lattice.indices()):
        again = "The others are done; run the same command again to redo only these"
    return (
        f"{counted(failed)} of stage {stage.name} failed:\n  {listed}{more}\n{again}. Details: "
        f"{failure_folder(ledger.run_folder, stage.name, failed[0].index)}; neuroseg replay {ledger.run_folder} "
        f"{stage.name} {failed[0].index} does this block alone, here"
    )


def _cause(stage: Stage, block: Block, causes: Mapping[int, str]) -> str:
    where = f"stage {stage.name}, block {block.index} ({describe(block.write_roi)})"
    return causes.get(block.index) or f"{where}: its worker died"

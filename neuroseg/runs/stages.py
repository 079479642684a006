"""One stage: what is pending of it is run, what it finds damaged is made again, what failed is reported."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neuroseg.blocks import Block
from neuroseg.errors import BlocksFailedError, DamagedError, DiskFullError
from neuroseg.execution.block import Begin, Choose, ledger_of
from neuroseg.execution.failures import alike, also, describe_failure, failure_folder, forget_failures, newest_log
from neuroseg.geometry import describe
from neuroseg.runs.damage import counted, mend, undermined
from neuroseg.stage import Stage
from neuroseg.storage.half_written import remove_half_written
from neuroseg.storage.ledger import StageLedger
from neuroseg.storage.space import DISK_FULL, free_bytes, is_full, readable
from neuroseg.storage.workspace import Workspace

_LISTED_FAILURES = 10
# How often a stage is done again because what it reads went missing while it ran.
_ROUNDS = 3


@dataclass(frozen=True)
class StageSummary:
    """What one stage did in this run; `blocks` is 0 where everything was done before.

    `outside` counts the blocks that the mask left out.
    """

    stage: str
    blocks: int
    voxels: int
    seconds: float
    peak_mib: int
    outside: int = 0


def run_stage(
    workspace: Workspace, every: Sequence[Stage], stage: Stage, pending: Sequence[Block], choose: Choose, begin: Begin
) -> StageSummary:
    """Run what is pending of one of `every` stage, after making again what it finds damaged of earlier ones.

    Blocks whose input went missing while they ran are done once more. Raises BlocksFailedError when some blocks failed
    for another reason.
    """
    ledger = ledger_of(workspace, stage)
    for _ in range(_ROUNDS):
        try:
            summary = _run_once(workspace, stage, pending, choose, begin)
        except (BlocksFailedError, DamagedError) as error:
            if not mend(workspace, every, stage, pending, choose, begin, error):
                raise
            summary = _run_once(workspace, stage, ledger.pending(pending), choose, begin)
        pending = undermined(workspace, every, stage, pending, choose, begin)
        if not pending:
            ledger.verify()
            return summary
    raise DamagedError(
        f"files that stage {stage.name} reads were removed {_ROUNDS} times while it ran; find out what removes files "
        f"in {workspace.path}, then run the same command again"
    )


def _run_once(
    workspace: Workspace, stage: Stage, pending: Sequence[Block], choose: Choose, begin: Begin
) -> StageSummary:
    """Run what is pending of one stage; raises BlocksFailedError when some of it failed."""
    started = time.monotonic()
    ledger = ledger_of(workspace, stage)
    _clear_up(workspace, stage, ledger)  # after a run that was killed
    ledger.claim()
    outside = len(stage.lattice.indices_touching(stage.lattice.roi)) - len(stage.lattice.indices())
    if not pending:
        return StageSummary(stage.name, 0, 0, 0.0, 0, outside)
    ledger.clear(pending)
    forget_failures(workspace, stage.name)
    stage.prepare()
    voxels = sum(block.write_roi.size for block in pending)
    observe = begin(stage.name, len(pending), voxels)
    began = time.time()
    try:
        done = choose(stage, pending).run(stage, pending, ledger, observe)
    except DiskFullError as error:
        raise _disk_full(workspace, stage, ledger, len(ledger.pending(pending))) from error
    finally:
        _clear_up(workspace, stage, ledger)
    # What the workers reported counts; the marks are only asked what is left, and network disks list them late.
    if done < len(pending):
        ledger.refresh()
    # A worker that was given up may have ended its block after all.
    if done < len(pending) and (failed := ledger.pending(pending)):
        causes = ledger.failures()
        if is_full(workspace.path) or any(DISK_FULL in cause for cause in causes.values()):
            raise _disk_full(workspace, stage, ledger, len(failed))
        _describe_deaths(workspace, stage, failed)
        raise BlocksFailedError(_failure_report(stage, failed, ledger, causes))
    peaks = [int(record["peak_mib"]) for record in ledger.records() if record["time"] >= began]
    return StageSummary(stage.name, len(pending), voxels, time.monotonic() - started, max(peaks, default=0), outside)


def _clear_up(workspace: Workspace, stage: Stage, ledger: StageLedger) -> None:
    """Remove what was being written of blocks that are in hand no more, and forget that they were."""
    known = set(stage.lattice.indices())
    blocks = [stage.lattice.block(index, stage.halo) for index in ledger.cut_off() if index in known]
    remove_half_written([workspace.artifact(name) for name in stage.outputs], ledger.folder, blocks)
    ledger.end()


def _disk_full(workspace: Workspace, stage: Stage, ledger: StageLedger, left: int) -> DiskFullError:
    """Return the error of a disk that is full: the one that a block failed of, else the workspace's."""
    causes = [cause for cause in ledger.failures().values() if DISK_FULL in cause]
    full = f"{DISK_FULL}: {workspace.path} has {readable(free_bytes(workspace.path))} free"
    if causes:
        full = causes[0][causes[0].index(DISK_FULL) :].splitlines()[0]
    return DiskFullError(
        f"{full}; {left} {'block' if left == 1 else 'blocks'} of stage {stage.name} are left. Make space, then run the "
        "same command again: it continues where it stopped"
    )


def _describe_deaths(workspace: Workspace, stage: Stage, failed: Sequence[Block]) -> None:
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

"""One stage: what is pending of it is run, what it finds damaged is made again, what failed is told."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from neuroseg.blocks import Block
from neuroseg.errors import BlocksFailedError, DamagedError, DiskFullError, NeurosegError
from neuroseg.execution.work import Executor, run_blocks
from neuroseg.stage import Stage
from neuroseg.storage.damage import damaged_blocks
from neuroseg.storage.failures import describe_failure, failure_folder, forget_failures, newest_log
from neuroseg.storage.ledger import StageLedger
from neuroseg.storage.space import DISK_FULL, free_bytes, is_full, readable
from neuroseg.storage.workspace import Workspace

_LISTED_FAILURES = 10
# Of so many failed blocks the inputs are read to find damage; where more fail, it is seldom that.
_EXAMINED = 20
_PUBLISHED = "segmentation.zarr"

logger = logging.getLogger(__name__)

Begin = Callable[[str, int, int], Callable[[int, int], None]]
"""begin(stage, blocks to do, their voxels) returns the function that is told (blocks done, blocks failed)."""


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


Choose = Callable[[Stage, Sequence[Block]], Executor]


def ledger_of(workspace: Workspace, stage: Stage) -> StageLedger:
    """Return the marks of a stage."""
    return workspace.ledger(stage.name, stage.identity, stage.scope)


def run_stage(
    workspace: Workspace, every: Sequence[Stage], stage: Stage, pending: Sequence[Block], choose: Choose, begin: Begin
) -> StageSummary:
    """Run what is pending of one of `every` stage, after making again what it finds damaged of earlier ones.

    Raises BlocksFailedError when some blocks failed for another reason.
    """
    try:
        return _run_once(workspace, stage, pending, choose, begin)
    except (BlocksFailedError, DamagedError) as error:
        if not _mend(workspace, every, stage, pending, choose, begin, error):
            raise
    return _run_once(workspace, stage, ledger_of(workspace, stage).pending(pending), choose, begin)


def _mend(
    workspace: Workspace,
    every: Sequence[Stage],
    stage: Stage,
    blocks: Sequence[Block],
    choose: Choose,
    begin: Begin,
    error: NeurosegError,
) -> bool:
    """Make again what blocks of a stage failed of; returns whether anything was damaged.

    What is made again is the same bytes, and takes the damaged one's place when it is whole: the marks of its blocks,
    and all that was made of them, stay, even when this is cut off. Raises `error` when it cannot be made again.
    """
    ledger = ledger_of(workspace, stage)
    causes = ledger.failures()
    left = [block for block in blocks if block.index in causes] or ledger.pending(blocks)
    logger.info("looking for damage among what %d failed blocks of stage %s read", len(left), stage.name)
    damaged = list(_damaged(workspace, every, stage, left[:_EXAMINED]))
    for maker, lost in damaged:
        counted = "1 block" if len(lost) == 1 else f"{len(lost)} blocks"
        logger.warning("%s of stage %s cannot be read any more, damaged on disk: made again", counted, maker.name)
        try:
            if not _made_again(workspace, maker, lost, choose, begin):
                if not _mend(workspace, every, maker, lost, choose, begin, error):
                    raise error
                _made_again(workspace, maker, lost, choose, begin)
        except (NeurosegError, OSError) as another:
            raise error from another
    return bool(damaged)


def _made_again(workspace: Workspace, maker: Stage, blocks: Sequence[Block], choose: Choose, begin: Begin) -> bool:
    """Process blocks that are done once more; returns whether none failed."""
    ledger = ledger_of(workspace, maker)
    ledger.clear_failures(blocks)
    observe = begin(maker.name, len(blocks), sum(block.write_roi.size for block in blocks))
    run_blocks(choose(maker, blocks), maker, blocks, ledger, observe)
    return not set(ledger.failures()) & {block.index for block in blocks}


def _damaged(
    workspace: Workspace, every: Sequence[Stage], stage: Stage, blocks: Sequence[Block]
) -> Iterator[tuple[Stage, list[Block]]]:
    """Yield the earlier stages, with those of their blocks that `blocks` of a stage may have failed of.

    Tables are looked through whole: a fragment may be followed through any of them. The segmentation itself, which lies
    aside until it is whole, is not looked at.
    """
    for maker in every[: every.index(stage)]:
        reads = [workspace.artifact(name) for name in maker.outputs if name in stage.inputs and name != _PUBLISHED]
        inputs = {name for each in every for name in each.outputs if name in maker.inputs}
        if not all(workspace.artifact(name).exists() for name in inputs):
            continue  # what it would be made of was removed
        lattice, found = maker.lattice, dict[int, Block]()
        touched = {index for block in blocks for index in lattice.indices_touching(block.read_roi)}
        for path in reads:
            indices = sorted(touched & set(lattice.indices())) if path.suffix == ".zarr" else lattice.indices()
            candidates = [lattice.block(index, maker.halo) for index in indices]
            found |= {block.index: block for block in damaged_blocks(path, candidates)}
        if found:
            yield maker, [found[index] for index in sorted(found)]


def _run_once(
    workspace: Workspace, stage: Stage, pending: Sequence[Block], choose: Choose, begin: Begin
) -> StageSummary:
    """Run what is pending of one stage; raises BlocksFailedError when some of it failed."""
    started = time.monotonic()
    ledger = ledger_of(workspace, stage)
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
        run_blocks(choose(stage, pending), stage, pending, ledger, observe)
    except DiskFullError as error:
        raise _disk_full(workspace, stage, len(ledger.pending(pending))) from error
    finally:
        ledger.end()
    failed = ledger.pending(pending)
    if failed and (is_full(workspace.path) or any(DISK_FULL in cause for cause in ledger.failures().values())):
        raise _disk_full(workspace, stage, len(failed))
    if failed:
        _describe_deaths(workspace, stage, failed)
        raise BlocksFailedError(_failure_report(stage, failed, ledger))
    peaks = [int(record["peak_mib"]) for record in ledger.records() if record["time"] >= began]
    return StageSummary(stage.name, len(pending), voxels, time.monotonic() - started, max(peaks, default=0), outside)


def _disk_full(workspace: Workspace, stage: Stage, left: int) -> DiskFullError:
    return DiskFullError(
        f"{DISK_FULL}: {workspace.path} has {readable(free_bytes(workspace.path))} free; {left} "
        f"{'block' if left == 1 else 'blocks'} of stage {stage.name} are left. Make space, then run the same command "
        "again: it continues where it stopped"
    )


def _describe_deaths(workspace: Workspace, stage: Stage, failed: Sequence[Block]) -> None:
    """Describe blocks whose workers died without a word, as far as it can be told from here."""
    for block in failed[:_LISTED_FAILURES]:
        if not failure_folder(workspace.path, stage.name, block.index).exists():
            describe_failure(workspace, stage, block, "its worker died\n", log=newest_log(workspace, stage.name))


def _failure_report(stage: Stage, failed: Sequence[Block], ledger: StageLedger) -> str:
    causes = ledger.failures()
    lines = [
        causes.get(block.index, f"stage {stage.name}, block {block.index}: its worker died").splitlines()[0]
        for block in failed[:_LISTED_FAILURES]
    ]
    more = f"\n  and {len(failed) - _LISTED_FAILURES} more" if len(failed) > _LISTED_FAILURES else ""
    listed = "\n  ".join(lines)
    return (
        f"{len(failed)} {'block' if len(failed) == 1 else 'blocks'} of stage {stage.name} failed:\n  {listed}{more}\n"
        f"The others are done; run the same command again to redo only these. Details: "
        f"{failure_folder(ledger.run_folder, stage.name, failed[0].index)}; neuroseg replay {ledger.run_folder} "
        f"{stage.name} {failed[0].index} does this block alone, here"
    )

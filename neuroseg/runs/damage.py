"""What a stage had made and is damaged or gone: found, and made again by the blocks that had made it.

marks of done blocks + listed files  ->  blocks whose files are gone or have another size  ->  made again, before use
blocks that failed + what they read  ->  blocks whose files do not decode                  ->  made again, tried again
blocks to be made again              ->  those of their inputs that were released          ->  made again first

What is made again is the same bytes and replaces the damaged file when it is whole. So the marks of its blocks, and all
that was made of them, stay valid, even when this is cut off. Blocks that may have read a missing file as zeros are
unmarked first: whoever goes on after a crash does them again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

from neuroseg.blocks import Block
from neuroseg.errors import BlocksFailedError, DamagedError, NeurosegError
from neuroseg.execution.block import ledger_of
from neuroseg.execution.serial import SerialExecutor
from neuroseg.execution.task import Begin, Choose, Task
from neuroseg.runs.pending import released, released_inputs
from neuroseg.segmentation.stage import PyramidStage, RelabelStage
from neuroseg.stage import Stage
from neuroseg.storage.integrity import damaged_blocks
from neuroseg.storage.stored import artifact_at, refresh, sizes_in, stored_now
from neuroseg.storage.workspace import Workspace

# Of so many failed blocks the inputs are read to find damage; where more fail, it is seldom that.
_MAX_EXAMINED = 20

logger = logging.getLogger(__name__)


def as_published(workspace: Workspace, every: Sequence[Stage]) -> list[Stage]:
    """Return the stages with those that make the segmentation as of the finished one, which lies at its final place."""
    return [
        replace(stage, aside=workspace.segmentation) if isinstance(stage, RelabelStage | PyramidStage) else stage
        for stage in every
    ]


def missing_blocks(workspace: Workspace, stage: Stage, only: str | None = None) -> list[Block]:
    """Return the done blocks of a stage whose files are gone, cut short or emptied, as their marks know them.

    `only` names one of its artifacts. Those that are not there as a whole are not looked at: they were removed on
    purpose, or are still to be made.
    """
    known = ledger_of(workspace, stage).stored(list(stage.lattice.blocks(stage.halo)))
    lost: dict[int, Block] = {}
    for number, name in enumerate(stage.outputs):
        if only not in (None, name):
            continue
        try:
            artifact = artifact_at(workspace.artifact(name))
        except ValueError:  # an array without its description: nothing of it can be read
            lost |= {block.index: block for block, _ in known}
            continue
        if artifact is None:
            continue
        size_of = sizes_in(artifact)
        for block, stored in known:
            if number < len(stored) and stored_now(artifact, size_of, block) != stored[number]:
                lost[block.index] = block
    return [lost[index] for index in sorted(lost)]


def require_whole(workspace: Workspace, stages: Sequence[Stage], artifact: str) -> None:
    """Raise DamagedError where files of an artifact in the workspace are missing: zarr would read them as zeros."""
    for stage in as_published(workspace, stages):
        for name in stage.outputs:
            if name == artifact and ledger_of(workspace, stage).released():
                raise DamagedError(
                    f"blocks of {artifact} in {workspace.path} were deleted as soon as they were read (--keep stream); "
                    "predict them again with neuroseg predict"
                )
            if name.partition("/")[0] == artifact and (lost := missing_blocks(workspace, stage, name)):
                raise DamagedError(
                    f"{counted(lost)} of {artifact} in {workspace.path} {'is' if len(lost) == 1 else 'are'} missing or "
                    f"cut short on disk; run `neuroseg segment {workspace.path}` to make what is missing again"
                )


def recompute_missing(
    workspace: Workspace, every: Sequence[Stage], stage: Stage, choose: Choose, begin: Begin, *, now: bool = True
) -> None:
    """Make again what is missing of what a stage had made; raises NeurosegError when it cannot be made again.

    Of later stages that were cut off before their inputs were looked at once more, the blocks that read what is missing
    are unmarked. Unless `now`, what is missing is only unmarked, too: what it is made of is not complete itself.
    """
    lost = _certainly_missing(workspace, stage)
    if not lost:
        return
    unverified = [reader for reader in every if not ledger_of(workspace, reader).is_verified()]
    unmark_readers(workspace, every, stage, lost, only=unverified)
    if now:
        _recompute_or_fail(workspace, every, stage, lost, choose, begin)
    else:
        ledger_of(workspace, stage).clear(lost)


def unmark_readers(
    workspace: Workspace, every: Sequence[Stage], stage: Stage, lost: Sequence[Block], only: Sequence[Stage]
) -> bool:
    """Unmark the blocks of `only` some stages that read blocks of an earlier one, and those that read these in turn.

    Returns whether there are any.
    """
    gone: list[tuple[Stage, Sequence[Block]]] = [(stage, lost)] if lost else []
    for reader in [each for each in every[every.index(stage) + 1 :] if each in only]:
        ledger, blocks = ledger_of(workspace, reader), list(reader.lattice.blocks(reader.halo))
        left = {block.index for block in ledger.pending(blocks)}
        found: dict[int, Block] = {}
        for maker, made in gone:
            if not set(maker.outputs).isdisjoint(reader.inputs):
                found |= {block.index: block for block in _readers(reader, blocks, maker, made)}
        readers = [found[index] for index in sorted(found.keys() - left)]
        if readers:
            ledger.clear(readers)
            gone.append((reader, readers))
    return len(gone) > 1


def _certainly_missing(workspace: Workspace, stage: Stage) -> list[Block]:
    """Return the blocks of `missing_blocks`, after a second look where a network disk may list an older state."""
    lost = missing_blocks(workspace, stage)
    if lost:
        refresh(workspace.artifacts, stage.outputs, lost)
    return missing_blocks(workspace, stage) if lost else lost


def _recompute_or_fail(
    workspace: Workspace, every: Sequence[Stage], stage: Stage, lost: Sequence[Block], choose: Choose, begin: Begin
) -> None:
    gone = [name for name in stage.inputs if _is_gone(workspace, every, name)]
    what = f"{counted(lost)} of stage {stage.name} {'is' if len(lost) == 1 else 'are'} missing or cut short on disk"
    if gone:
        raise NeurosegError(
            f"{what} and cannot be made again: {gone[0]} was removed. "
            f"Make all of it again with --restart {restart_of(stage.name)}"
        )
    logger.warning("%s: made again", what)
    stage.prepare()
    if not recompute(workspace, every, stage, lost, choose, begin):
        failed = [cause.splitlines()[0] for cause in ledger_of(workspace, stage).failures().values()]
        raise BlocksFailedError(f"{what} and could not be made again: {failed[0] if failed else 'see the logs'}")


def _is_gone(workspace: Workspace, every: Sequence[Stage], name: str) -> bool:
    """Return whether an artifact of a run was removed, and nobody knows how to make parts of it again."""
    makers = [stage for stage in every if name in stage.outputs]
    return bool(makers) and not workspace.artifact(name).exists() and not released(workspace, makers[0])


def recompute_vanished_inputs(
    workspace: Workspace, every: Sequence[Stage], stages: Sequence[Stage], choose: Choose, begin: Begin
) -> bool:
    """Return whether blocks of stages that just ran may have read zeros: what they read went missing meanwhile.

    They are unmarked, and what is missing is made again. Raises NeurosegError when it cannot be.
    """
    found = False
    for maker in every[: every.index(stages[-1])]:
        if not any(not set(maker.outputs).isdisjoint(stage.inputs) for stage in stages):
            continue
        lost = _certainly_missing(workspace, maker)
        if lost:
            found = unmark_readers(workspace, every, maker, lost, only=stages) or found
            _recompute_or_fail(workspace, every, maker, lost, choose, begin)
    return found


def _readers(stage: Stage, blocks: Sequence[Block], maker: Stage, lost: Sequence[Block]) -> list[Block]:
    """Return those of the blocks of a stage that read what blocks of an earlier one had made."""
    if stage.scale != maker.scale or not all(_is_array(maker, name) for name in maker.outputs if name in stage.inputs):
        return list(blocks)  # a level has voxels of its own, and tables are read from any block
    cells = {index for block in lost for index in maker.lattice.indices_touching(block.write_roi)}
    return [block for block in blocks if not cells.isdisjoint(maker.lattice.indices_touching(block.read_roi))]


def _is_array(maker: Stage, name: str) -> bool:
    return name.endswith(".zarr") or isinstance(maker, RelabelStage | PyramidStage)


def recompute_damaged(
    workspace: Workspace,
    every: Sequence[Stage],
    stages: Sequence[Stage],
    stage: Stage,
    blocks: Sequence[Block],
    choose: Choose,
    begin: Begin,
    error: NeurosegError,
) -> bool:
    """Make again what blocks of a stage failed of; returns whether anything was damaged.

    Those blocks of `stages`, which ran together, that may have read something missing as zeros are unmarked. Raises
    `error` when it cannot be made again.
    """
    ledger = ledger_of(workspace, stage)
    failed = ledger.failed()
    left = [block for block in blocks if block.index in failed] or ledger.pending(blocks)
    logger.info("looking for damage among what %d failed blocks of stage %s read", len(left), stage.name)
    damaged = list(_find_damage(workspace, every, stage, left[:_MAX_EXAMINED]))
    for maker, lost, missing in damaged:
        unmark_readers(workspace, every, maker, missing, only=stages)
        logger.warning("%s of stage %s cannot be read any more, damaged on disk: made again", counted(lost), maker.name)
        try:
            if not recompute(workspace, every, maker, lost, choose, begin) and not (
                recompute_damaged(workspace, every, [maker], maker, lost, choose, begin, error)
                and recompute(workspace, every, maker, lost, choose, begin)
            ):
                raise error
        except (NeurosegError, OSError) as another:
            raise error from another
    return bool(damaged)


def recompute(
    workspace: Workspace, every: Sequence[Stage], maker: Stage, blocks: Sequence[Block], choose: Choose, begin: Begin
) -> bool:
    """Process blocks that are done once more, after what they read and was released; returns whether none failed."""
    for earlier, needed in released_inputs(workspace, every, maker, blocks):
        logger.info("%s of stage %s, released before, are read again: made again", counted(needed), earlier.name)
        earlier.prepare()
        if not recompute(workspace, every, earlier, needed, choose, begin):
            return False
    ledger = ledger_of(workspace, maker)
    ledger.clear_failures(blocks)
    observe = begin(maker.name, len(blocks), sum(block.voxels for block in blocks))
    # Workers know the segmentation only where it lies while it is made.
    is_published = workspace.segmentation.name in {name.partition("/")[0] for name in maker.outputs}
    task = Task(maker, blocks, ledger, observe)
    executor = SerialExecutor() if is_published else choose([task])
    (done,) = executor.run([task])
    ledger.keep_newest(blocks)
    return done == len(blocks)


def _find_damage(
    workspace: Workspace, every: Sequence[Stage], stage: Stage, blocks: Sequence[Block]
) -> Iterator[tuple[Stage, list[Block], list[Block]]]:
    """Yield earlier stages, those of their blocks that `blocks` of a stage may have failed of, and the missing ones.

    Tables are looked through whole: a fragment may be followed through any of them.
    """
    for maker in every[: every.index(stage)]:
        reads = [name for name in maker.outputs if name in stage.inputs]
        if any(_is_gone(workspace, every, name) for name in maker.inputs):
            continue  # what it would be made of was removed
        lattice = maker.lattice
        missing = missing_blocks(workspace, maker) if reads else []
        found = {block.index: block for block in missing}
        touched = {index for block in blocks for index in lattice.indices_touching(block.read_roi)}
        for name in reads:
            is_near = _is_array(maker, name) and stage.scale == maker.scale
            indices = sorted(touched & set(lattice.indices())) if is_near else lattice.indices()
            candidates = [lattice.block(index, maker.halo) for index in indices]
            found |= {block.index: block for block in damaged_blocks(workspace.artifact(name), candidates)}
        if found:
            yield maker, [found[index] for index in sorted(found)], missing


def restart_of(stage: str) -> str:
    """Return the stage that `--restart` takes to make one again: the stage itself, or the one that it goes with."""
    name = stage.split("-")[0]
    return {"sections": "affinities", "reduction": "edges", "lookup": "relabel", "pyramid": "relabel"}.get(name, name)


def counted(blocks: Sequence[Block]) -> str:
    """Return the number of blocks in words."""
    return "1 block" if len(blocks) == 1 else f"{len(blocks)} blocks"

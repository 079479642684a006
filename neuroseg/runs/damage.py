"""Find missing or damaged files of done blocks, and recompute those blocks.

done marks + listed files          ->  blocks whose files are missing or have another size  ->  recompute before use
failed blocks + their inputs       ->  blocks whose files cannot be decoded                 ->  recompute, then retry
blocks to recompute                ->  their inputs that were released (pending.py)         ->  recompute first

Recomputing gives the same bytes, and the new file replaces the damaged one in one step. So the marks of the block and
everything computed from it stay valid, even after an interruption. zarr reads a missing file as zeros. So blocks that
may have read one are unmarked first, and a run after a crash recomputes them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from neuroseg.blocks import Block, Blocks, chosen, voxels_of
from neuroseg.errors import BlocksFailedError, DamagedError, NeurosegError
from neuroseg.execution.block import ledger_of
from neuroseg.execution.failures import forget_failures, message_and_hint
from neuroseg.execution.serial import SerialExecutor
from neuroseg.execution.task import Begin, Choose, Task
from neuroseg.runs.pending import released_blocks, released_inputs
from neuroseg.runs.plan import PREDICTION
from neuroseg.runs.temporary import is_temporary
from neuroseg.segmentation.stage import PyramidStage, RelabelStage
from neuroseg.stage import Stage
from neuroseg.storage.cleaning import TEMPORARY
from neuroseg.storage.file_counts import file_counts
from neuroseg.storage.integrity import damaged_blocks
from neuroseg.storage.labels import finished_name
from neuroseg.storage.stored import artifact_at, refresh
from neuroseg.storage.workspace import Workspace

# Search the inputs of at most this many failed blocks for damage. If more fail, damage is seldom the cause.
_MAX_EXAMINED = 20

logger = logging.getLogger(__name__)


def as_published(workspace: Workspace, every: Sequence[Stage]) -> list[Stage]:
    """Return the stages. Those that write the segmentation write to the published one instead of a temporary place."""
    return [
        replace(stage, aside=finished_name(workspace, stage.aside))
        if isinstance(stage, RelabelStage | PyramidStage)
        else stage
        for stage in every
    ]


def missing_blocks(workspace: Workspace, stage: Stage, only: str | None = None) -> Sequence[Block]:
    """Return the done blocks of a stage whose files are missing, truncated or empty, compared with their marks.

    `only` restricts the check to one artifact. Artifacts that do not exist are skipped: they were removed on purpose,
    or are not written yet.
    """
    known = ledger_of(workspace, stage).stored(stage.lattice.blocks(stage.halo))
    lost = np.zeros(len(known.blocks), bool)
    for number, name in enumerate(stage.outputs):
        if only not in (None, name):
            continue
        try:
            artifact = artifact_at(workspace.artifact(name))
        except ValueError:  # an array without metadata: none of it can be read
            lost[:] = True
            continue
        if artifact is None or number >= known.files.shape[1]:
            continue
        files, sizes = file_counts(artifact, known.blocks)
        has_count = known.files[:, number] >= 0
        lost |= has_count & ((files != known.files[:, number]) | (sizes != known.sizes[:, number]))
    return chosen(known.blocks, lost)


def require_whole(workspace: Workspace, stages: Sequence[Stage], artifact: str) -> None:
    """Raise DamagedError if files of an artifact are missing, because zarr would read them as zeros."""
    for stage in as_published(workspace, stages):
        for name in stage.outputs:
            if name == artifact and len(ledger_of(workspace, stage).released()):
                raise DamagedError(
                    f"blocks of {artifact} in {workspace.path} were deleted during the run (--keep stream)",
                    hint=f"run neuroseg predict {workspace.path} to recompute them",
                )
            if name.partition("/")[0] == artifact and (lost := missing_blocks(workspace, stage, name)):
                raise DamagedError(
                    f"{counted(lost)} of {artifact} in {workspace.path} {'is' if len(lost) == 1 else 'are'} missing or "
                    "truncated on disk",
                    hint=f"run neuroseg segment {workspace.path} to recompute what is missing",
                )


def recompute_missing(
    workspace: Workspace, every: Sequence[Stage], stage: Stage, choose: Choose, begin: Begin, *, now: bool = True
) -> None:
    """Recompute the done blocks of a stage whose files are missing. Raises NeurosegError if that is impossible.

    If a later stage was interrupted before its inputs were verified, its blocks that read the missing ones are
    unmarked. Without `now`, the missing blocks are only unmarked, because their inputs are not complete.
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
    """Unmark the blocks that read the lost blocks of a stage, directly or through other blocks, in the stages `only`.

    Return whether any block was unmarked.
    """
    gone: list[tuple[Stage, Sequence[Block]]] = [(stage, lost)] if lost else []
    for reader in [each for each in every[every.index(stage) + 1 :] if each in only]:
        ledger, blocks = ledger_of(workspace, reader), reader.lattice.blocks(reader.halo)
        left = set(ledger.pending(blocks).indices.tolist())
        found: dict[int, Block] = {}
        for maker, made in gone:
            if not set(maker.outputs).isdisjoint(reader.inputs):
                found |= {block.index: block for block in _readers(reader, blocks, maker, made)}
        readers = [found[index] for index in sorted(found.keys() - left)]
        if readers:
            ledger.clear(readers)
            gone.append((reader, readers))
    return len(gone) > 1


def _certainly_missing(workspace: Workspace, stage: Stage) -> Sequence[Block]:
    """Return `missing_blocks`, but check twice, because a network disk may list an older state."""
    lost = missing_blocks(workspace, stage)
    if lost:
        refresh(workspace.artifacts, stage.outputs, lost)
    return missing_blocks(workspace, stage) if lost else lost


def _recompute_or_fail(
    workspace: Workspace, every: Sequence[Stage], stage: Stage, lost: Sequence[Block], choose: Choose, begin: Begin
) -> None:
    gone = [name for name in stage.inputs if _is_gone(workspace, every, name)]
    what = f"{counted(lost)} of stage {stage.name} {'is' if len(lost) == 1 else 'are'} missing or truncated on disk"
    if gone:
        raise NeurosegError(
            f"{what} and cannot be recomputed, because {gone[0]} was removed",
            hint="recompute the whole stage: neuroseg "
            f"{'run' if stage.name in PREDICTION else 'segment'} {workspace.path} --restart {restart_of(stage.name)}",
        )
    logger.warning("%s; recomputing", what)
    stage.prepare()
    if not recompute(workspace, every, stage, lost, choose, begin):
        causes = list(ledger_of(workspace, stage).failures().values())
        message, hint = (
            message_and_hint(causes[0]) if causes else (f"no cause was recorded; see {workspace.path / 'logs'}", "")
        )
        raise BlocksFailedError(f"{what}, and recomputing failed: {message}", hint=hint)


def _is_gone(workspace: Workspace, every: Sequence[Stage], name: str) -> bool:
    """Return whether an artifact that a stage wrote was removed. If it was only released, it can be recomputed."""
    makers = [stage for stage in every if name in stage.outputs]
    return (
        bool(makers) and not workspace.artifact(name).exists() and not len(ledger_of(workspace, makers[0]).released())
    )


def recompute_vanished_inputs(
    workspace: Workspace, every: Sequence[Stage], stages: Sequence[Stage], choose: Choose, begin: Begin
) -> bool:
    """Recompute inputs that vanished while stages ran, and unmark the blocks that may have read them as zeros.

    Return whether blocks were unmarked. Raises NeurosegError if an input cannot be recomputed.
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
    """Return the blocks of a stage that read the lost blocks of an earlier stage."""
    if not all(_is_array(maker, name) for name in maker.outputs if name in stage.inputs):
        return list(blocks)  # any block may read any part of a table
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
    """Recompute the damaged inputs of failed blocks of a stage. Return whether any input was damaged.

    Unmarks the blocks of `stages`, which ran together, that may have read a missing file as zeros. Raises `error` if an
    input cannot be recomputed.
    """
    ledger = ledger_of(workspace, stage)
    failed = ledger.failed()
    left = [block for block in blocks if block.index in failed] or ledger.pending(blocks)
    logger.info("searching the inputs of %d failed blocks of stage %s for damage", len(left), stage.name)
    damaged = list(_find_damage(workspace, every, stage, left[:_MAX_EXAMINED]))
    for maker, lost, missing in damaged:
        unmark_readers(workspace, every, maker, missing, only=stages)
        logger.warning(
            "%s of stage %s %s damaged on disk; recomputing",
            counted(lost),
            maker.name,
            "is" if len(lost) == 1 else "are",
        )
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
    """Recompute done blocks, and before them their released inputs. Return whether no block failed."""
    if not recompute_released(workspace, every, released_inputs(workspace, every, maker, blocks), choose, begin):
        return False
    if _recompute(workspace, maker, blocks, choose, begin):
        return True
    causes = ledger_of(workspace, maker).failures().values()
    lacks_tables = any(f"/{name}/" in cause for cause in causes for name in TEMPORARY)
    if not (lacks_tables and recompute_far_inputs(workspace, every, maker, choose, begin)):
        return False
    forget_failures(workspace, maker.name)
    return _recompute(workspace, maker, blocks, choose, begin)


def recompute_far_inputs(
    workspace: Workspace, every: Sequence[Stage], reader: Stage, choose: Choose, begin: Begin
) -> bool:
    """Recompute all released blocks of the temporary stages that a stage reads. Return whether it can read more now.

    A fragment may continue through blocks far away, and only their entry tables show that.
    """
    makers = [stage for stage in every if is_temporary(stage) and not set(stage.outputs).isdisjoint(reader.inputs)]
    far = [(maker, blocks) for maker in makers if (blocks := released_blocks(workspace, maker))]
    return bool(far) and recompute_released(workspace, every, far, choose, begin)


def recompute_released(
    workspace: Workspace, every: Sequence[Stage], found: Sequence[tuple[Stage, Blocks]], choose: Choose, begin: Begin
) -> bool:
    """Recompute released blocks of stages. Return whether no block failed."""
    for stage, blocks in found:
        logger.info("recomputing %s of stage %s that were released", counted(blocks), stage.name)
        stage.prepare()
        if not recompute(workspace, every, stage, blocks, choose, begin):
            return False
    return True


def _recompute(workspace: Workspace, maker: Stage, blocks: Sequence[Block], choose: Choose, begin: Begin) -> bool:
    ledger = ledger_of(workspace, maker)
    ledger.clear_failures(blocks)
    observe = begin(maker.name, len(blocks), voxels_of(blocks))
    # Workers write the segmentation only to its temporary place. So process one that was renamed in the head.
    is_published = isinstance(maker, RelabelStage | PyramidStage) and maker.aside == workspace.segmentation.name
    task = Task(maker, blocks, ledger, observe)
    executor = SerialExecutor() if is_published else choose([task])
    (done,) = executor.run([task])
    return done == len(blocks)


def _find_damage(
    workspace: Workspace, every: Sequence[Stage], stage: Stage, blocks: Sequence[Block]
) -> Iterator[tuple[Stage, Sequence[Block], Sequence[Block]]]:
    """Yield earlier stages, their damaged or missing blocks that `blocks` of a stage read, and the missing ones only.

    Tables are searched completely, because a block may read any part of them.
    """
    for maker in every[: every.index(stage)]:
        reads = [name for name in maker.outputs if name in stage.inputs]
        if any(_is_gone(workspace, every, name) for name in maker.inputs):
            continue  # cannot be recomputed
        lattice = maker.lattice
        missing = missing_blocks(workspace, maker) if reads else []
        found = {block.index: block for block in missing}
        touched = {index for block in blocks for index in lattice.indices_touching(block.read_roi)}
        for name in reads:
            is_near = _is_array(maker, name)
            indices = sorted(touched & set(lattice.indices())) if is_near else lattice.indices()
            candidates = [lattice.block(index, maker.halo) for index in indices]
            found |= {block.index: block for block in damaged_blocks(workspace.artifact(name), candidates)}
        if found:
            yield maker, [found[index] for index in sorted(found)], missing


def restart_of(stage: str) -> str:
    """Return the stage to pass to `--restart` to recompute `stage`: itself, or the one that includes it."""
    name = stage.split("-")[0]
    return {"sections": "affinities", "lookup": "relabel", "pyramid": "relabel"}.get(name, name)


def counted(blocks: Sequence[Block]) -> str:
    """Return `1 block` or `N blocks`."""
    return "1 block" if len(blocks) == 1 else f"{len(blocks)} blocks"

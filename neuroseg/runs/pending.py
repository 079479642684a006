"""Find the pending blocks of stages that run together, including released blocks that must be recomputed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neuroseg.blocks import Block
from neuroseg.execution.block import ledger_of
from neuroseg.stage import Stage
from neuroseg.storage.workspace import Workspace

AFFINITIES = "affinities"


@dataclass(frozen=True)
class Pending:
    """The pending blocks of a stage."""

    stage: Stage
    blocks: Sequence[Block]


def still_pending(workspace: Workspace, stages: Sequence[Stage]) -> list[Pending]:
    """Return the pending blocks of stages that run together."""
    return with_released(workspace, [pending_of(workspace, stage) for stage in stages])


def pending_of(workspace: Workspace, stage: Stage) -> Pending:
    """Return the blocks of a stage that are not done."""
    return Pending(stage, ledger_of(workspace, stage).pending(stage.lattice.blocks(stage.halo)))


def with_released(workspace: Workspace, found: Sequence[Pending]) -> list[Pending]:
    """Return the pending blocks of stages that run together, after unmarking the released blocks that they read.

    If no other of these stages reads a stage, all its released blocks are unmarked.
    """
    for maker in found:
        gone, lattice = released(workspace, maker.stage), maker.stage.lattice
        if not gone:
            continue
        readers = [each for each in found if not set(maker.stage.outputs).isdisjoint(each.stage.inputs)]
        again = [block for each in readers for block in released_for(workspace, maker.stage, each.blocks)]
        if not readers:
            again = [lattice.block(index, maker.stage.halo) for index in sorted(gone)]
        if again:
            ledger_of(workspace, maker.stage).clear(again)
    return [pending_of(workspace, each.stage) if each.stage.name == AFFINITIES else each for each in found]


def released_inputs(
    workspace: Workspace, every: Sequence[Stage], reader: Stage, blocks: Sequence[Block]
) -> list[tuple[Stage, list[Block]]]:
    """Return the released blocks of earlier stages that blocks of a stage read. zarr would read them as zeros."""
    makers = [stage for stage in every if not set(stage.outputs).isdisjoint(reader.inputs)]
    found = [(maker, released_for(workspace, maker, blocks)) for maker in makers]
    return [(maker, needed) for maker, needed in found if needed]


def released_for(workspace: Workspace, maker: Stage, readers: Sequence[Block]) -> list[Block]:
    """Return the released blocks of a stage that `readers`, blocks of a later stage, read."""
    gone = released(workspace, maker)
    touched = (
        {index for block in readers for index in maker.lattice.indices_touching(block.read_roi)} if gone else set()
    )
    return [maker.lattice.block(index, maker.halo) for index in sorted(touched & gone)]


def released(workspace: Workspace, maker: Stage) -> set[int]:
    """Return the released blocks of a stage, whose files were deleted after use. Only affinities are ever released."""
    return ledger_of(workspace, maker).released() if maker.name == AFFINITIES else set()

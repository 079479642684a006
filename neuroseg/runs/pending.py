"""Find the pending blocks of stages that run together, including released blocks that must be recomputed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neuroseg.blocks import Block, Blocks
from neuroseg.execution.block import ledger_of
from neuroseg.runs.temporary import is_temporary
from neuroseg.stage import Stage
from neuroseg.storage.workspace import Workspace


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

    If no other of these stages reads a stage, all its released blocks are unmarked. So are those of a temporary stage,
    because a block may read the table of any other.
    """
    pending = {each.stage.name: each for each in found}
    for maker in [each.stage for each in reversed(found)]:  # what is unmarked may itself read released blocks
        readers = [each.blocks for each in pending.values() if not set(maker.outputs).isdisjoint(each.stage.inputs)]
        if not readers or (is_temporary(maker) and any(readers)):
            again = released_blocks(workspace, maker)
        else:
            again = released_for(workspace, maker, *readers)
        if again:
            ledger_of(workspace, maker).clear(again)
            pending[maker.name] = pending_of(workspace, maker)
    return list(pending.values())


def released_inputs(
    workspace: Workspace, every: Sequence[Stage], reader: Stage, blocks: Sequence[Block]
) -> list[tuple[Stage, Blocks]]:
    """Return the released blocks of earlier stages that blocks of a stage read. zarr would read them as zeros.

    A block may also read tables of blocks further away, and fails without them.
    """
    makers = [stage for stage in every if not set(stage.outputs).isdisjoint(reader.inputs)]
    found = [(maker, released_for(workspace, maker, blocks)) for maker in makers]
    return [(maker, needed) for maker, needed in found if needed]


def released_for(workspace: Workspace, maker: Stage, *readers: Sequence[Block]) -> Blocks:
    """Return the released blocks of a stage that `readers`, blocks of later stages, read in their regions."""
    gone = released_blocks(workspace, maker)
    if not gone:
        return gone
    lattice = maker.lattice
    touched = {index for blocks in readers for block in blocks for index in lattice.indices_touching(block.read_roi)}
    return gone.where(np.isin(gone.indices, list(touched)))


def released_blocks(workspace: Workspace, maker: Stage) -> Blocks:
    """Return the released blocks of a stage, whose files were deleted after use."""
    return ledger_of(workspace, maker).released_of(maker.lattice.blocks(maker.halo))

"""What stages that are about to run read of earlier ones and is not there any more: refused before anything changes."""

from __future__ import annotations

from collections.abc import Sequence

from neuroseg.blocks import Block
from neuroseg.errors import InputError
from neuroseg.execution.block import ledger_of
from neuroseg.runs.damage import counted, restart_of
from neuroseg.runs.pending import Pending, released, released_inputs
from neuroseg.runs.plan import PREDICTION
from neuroseg.segmentation.stage import PyramidStage, RelabelStage
from neuroseg.stage import Stage
from neuroseg.storage.workspace import Workspace


def require_inputs(workspace: Workspace, every: Sequence[Stage], first: int) -> None:
    """Raise InputError when the stages from `first` on read what earlier ones had made and was removed."""
    earliest = first
    while lost := removed(workspace, every[:earliest], every[earliest:]):
        earliest = every.index(lost[0][0])
        path = workspace.artifact(lost[0][1])
    if earliest < first:
        name = every[earliest].name
        raise InputError(
            f"stage {every[first].name} needs what was removed, {path} at the earliest; make it again with neuroseg "
            f"{'run' if name in PREDICTION else 'segment'} --restart {restart_of(name)}. Nothing was changed"
        )


def removed(workspace: Workspace, made: Sequence[Stage], reading: Sequence[Stage]) -> list[tuple[Stage, str]]:
    """Return what the stages in `made` have done, those in `reading` need, and is not there any more.

    What was released as a run went on (`--keep stream`) is none of it: its marks say so.
    """
    needed = {name for stage in reading for name in stage.inputs}
    return [
        (stage, name)
        for stage in made
        for name in stage.outputs
        # What views make lies aside until all of them are done.
        if name in needed and not isinstance(stage, RelabelStage | PyramidStage)
        if not workspace.artifact(name).exists() and ledger_of(workspace, stage).holds_any()
    ]


def require_held(
    workspace: Workspace,
    every: Sequence[Stage],
    groups: Sequence[Sequence[Stage]],
    pending: Sequence[Pending] = (),
    restarted: Sequence[Stage] = (),
) -> None:
    """Raise InputError where stages read what was released and is not made again with them.

    What is `pending` of the first group is given, or asked for; a group that follows one with something to do is redone
    as a whole, as `restarted` stages are.
    """
    makers = [stage for stage in every if released(workspace, stage)]
    known = {each.stage.name: each.blocks for each in pending}
    is_redone = False
    for group in groups if makers else ():
        will_run = False
        for stage in group:
            blocks = list(stage.lattice.blocks(stage.halo))
            if not (is_redone or stage in restarted):
                blocks = list(known.get(stage.name, ledger_of(workspace, stage).pending(blocks)))
            will_run = will_run or bool(blocks)
            for maker, needed in released_inputs(workspace, makers, stage, blocks):
                if maker not in group:
                    raise _released_error(stage, maker, needed, is_predicted=any(maker in each for each in groups))
        is_redone = is_redone or will_run


def _released_error(stage: Stage, maker: Stage, needed: Sequence[Block], *, is_predicted: bool) -> InputError:
    again = f"neuroseg run --restart {restart_of(maker.name)}" if is_predicted else "neuroseg run"
    return InputError(
        f"stage {stage.name} reads {counted(needed)} of {maker.name} that --keep stream has deleted; use {again} to "
        "predict them again. Nothing was changed"
    )

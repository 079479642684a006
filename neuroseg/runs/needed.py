"""What stages that are about to run read of earlier ones and is not there any more: refused before anything changes."""

from __future__ import annotations

from collections.abc import Sequence

from neuroseg.errors import InputError
from neuroseg.execution.block import ledger_of
from neuroseg.runs.damage import counted, restart_of
from neuroseg.runs.pending import released_for
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
    workspace: Workspace, every: Sequence[Stage], groups: Sequence[Sequence[Stage]], restarted: Sequence[Stage] = ()
) -> None:
    """Raise InputError where blocks that are about to run read what was released and is not made again with them.

    Of `restarted` stages that is every block.
    """
    for maker in every:
        group = next((group for group in groups if maker in group), ())
        for reader in [stage for group_ in groups for stage in group_]:
            if reader in group or set(maker.outputs).isdisjoint(reader.inputs):
                continue
            blocks = list(reader.lattice.blocks(reader.halo))
            todo = blocks if reader in restarted else ledger_of(workspace, reader).pending(blocks)
            if needed := released_for(workspace, maker, todo):
                again = f"with --restart {restart_of(maker.name)}" if group else ""
                raise InputError(
                    f"stage {reader.name} reads {counted(needed)} of {maker.name} that --keep stream has deleted; use "
                    f"neuroseg run {again}".rstrip()
                    + " to predict them again. Nothing was changed"
                )

"""Refuse a run before it changes anything, if it reads outputs of earlier stages that no longer exist."""

from __future__ import annotations

from collections.abc import Sequence

from neuroseg.blocks import Block
from neuroseg.errors import InputError
from neuroseg.execution.block import ledger_of
from neuroseg.runs.damage import counted, restart_of
from neuroseg.runs.pending import Pending, released_blocks, released_inputs
from neuroseg.runs.plan import PREDICTION
from neuroseg.segmentation.stage import PyramidStage, RelabelStage
from neuroseg.stage import Stage
from neuroseg.storage.workspace import Workspace


def require_inputs(workspace: Workspace, every: Sequence[Stage], first: int) -> None:
    """Raise InputError if stages from `first` on read outputs of earlier stages that were removed."""
    earliest = first
    while lost := removed(workspace, every[:earliest], every[earliest:]):
        earliest = every.index(lost[0][0])
        path = workspace.artifact(lost[0][1])
    if earliest < first:
        name = every[earliest].name
        raise InputError(
            f"stage {every[first].name} needs {path}, which was removed; nothing was changed",
            hint=f"recompute it: neuroseg {'run' if name in PREDICTION else 'segment'} {workspace.path} "
            f"--restart {restart_of(name)}",
        )


def removed(workspace: Workspace, made: Sequence[Stage], reading: Sequence[Stage]) -> list[tuple[Stage, str]]:
    """Return the artifacts that the stages `made` wrote, the stages `reading` read, and that no longer exist.

    Artifacts whose blocks were released during a run do not count.
    """
    needed = {name for stage in reading for name in stage.inputs}
    return [
        (stage, name)
        for stage in made
        for name in stage.outputs
        # Views write to a temporary place until all of them are done.
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
    """Raise InputError if stages read released blocks that this run does not recompute.

    `pending` contains the pending blocks of the first group, if known. A group after one that runs is recomputed
    completely, and so are `restarted` stages.
    """
    makers = [stage for stage in every if stage not in restarted and released_blocks(workspace, stage)]
    known = {each.stage.name: each.blocks for each in pending}
    is_redone = False
    for group in groups if makers else ():
        will_run = False
        for stage in group:
            blocks: Sequence[Block] = stage.lattice.blocks(stage.halo)
            if not (is_redone or stage in restarted):
                blocks = known[stage.name] if stage.name in known else ledger_of(workspace, stage).pending(blocks)
            will_run = will_run or bool(blocks)
            others = [maker for maker in makers if maker not in group]
            for maker, needed in released_inputs(workspace, others, stage, blocks):
                is_predicted = any(maker in each for each in groups)
                raise _released_error(workspace, stage, maker, needed, is_predicted=is_predicted)
        is_redone = is_redone or will_run


def _released_error(
    workspace: Workspace, stage: Stage, maker: Stage, needed: Sequence[Block], *, is_predicted: bool
) -> InputError:
    restart = f" --restart {restart_of(maker.name)}" if is_predicted else ""
    return InputError(
        f"stage {stage.name} reads {counted(needed)} of {maker.name} that --keep stream deleted; nothing was changed",
        hint=f"recompute them: neuroseg run {workspace.path}{restart}",
    )

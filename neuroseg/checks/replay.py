"""Run one block of a stage again in this process, to investigate a failure."""

from __future__ import annotations

import time
from collections.abc import Sequence

from neuroseg.blocks import Block
from neuroseg.errors import InputError, MissingPartError, NeurosegError
from neuroseg.execution.block import completed, record
from neuroseg.execution.failures import forget_failure
from neuroseg.execution.serial import SerialExecutor
from neuroseg.execution.task import Task, silent
from neuroseg.runs.damage import counted, missing_blocks, recompute_far_inputs, recompute_released
from neuroseg.runs.inputs import at_input, reads_input, require_input
from neuroseg.runs.options import Options
from neuroseg.runs.pending import released_inputs
from neuroseg.runs.pipeline import workspace_at
from neuroseg.runs.plan import Plan
from neuroseg.runs.temporary import is_temporary, remove_temporary
from neuroseg.stage import Stage
from neuroseg.storage.workspace import Workspace


def replay_block(path: str, stage_name: str, index: int, place: str | None = None) -> Workspace:
    """Process a block of a stage as a worker would, mark it done, and return the workspace.

    `place`: the new path of the input, if it was moved.

    Raises the errors of the stage, and InputError if the block does not exist or if its inputs are not complete.
    """
    workspace, plan = workspace_at(path)
    if place is not None:
        plan = at_input(plan, str(Options(input=place).with_absolute_paths().input), workspace)
    stage = plan.stage(workspace, stage_name)
    if place is None and reads_input(plan, stage):
        require_input(plan, workspace)
    known = stage.lattice.indices()
    if index not in known:
        raise InputError(
            f"stage {stage_name} has no block {index} (valid: {known[0]} to {known[-1]}, {len(known)} blocks)"
        )
    with workspace.locked():
        ledger = workspace.ledger(stage.name, stage.identity, stage.scope)
        if not ledger.is_claimed():
            raise InputError(
                f"stage {stage_name} has not begun in {path}", hint="run neuroseg run or neuroseg segment first"
            )
        ledger.require_same(stage_name, blocks=stage.lattice.blocks(stage.halo))
        _require_complete_inputs(workspace, plan, stage)
        block = stage.lattice.block(index, stage.halo)
        every = plan.stages(workspace)
        started = time.monotonic()
        _process(workspace, every, stage, block)
        record(completed(block, stage, workspace, started), block, ledger)
        forget_failure(workspace.path, stage.name, index)
        remove_temporary(workspace, every)
    return workspace


def _process(workspace: Workspace, every: Sequence[Stage], stage: Stage, block: Block) -> None:
    """Process a block in this process, after recomputing what it reads and a run removed after use."""
    found = released_inputs(workspace, every, stage, [block])
    if not recompute_released(workspace, every, found, _in_this_process, silent):
        raise NeurosegError(f"cannot recompute {counted(found[0][1])} of stage {found[0][0].name}")
    if is_temporary(stage):
        stage.prepare()
    with stage.open() as process:
        try:
            finish = process(block)
        except MissingPartError:
            if not recompute_far_inputs(workspace, every, stage, _in_this_process, silent):
                raise
            finish = process(block)
        if finish is not None:
            finish()


def _in_this_process(tasks: Sequence[Task]) -> SerialExecutor:
    return SerialExecutor()


def _require_complete_inputs(workspace: Workspace, plan: Plan, stage: Stage) -> None:
    """Raise InputError if an earlier stage is not complete, or if files that `stage` reads are missing."""
    for earlier in plan.stages(workspace):
        if earlier.name == stage.name:
            return
        marks = workspace.ledger(earlier.name, earlier.identity, earlier.scope)
        if left := len(marks.pending(earlier.lattice.blocks(earlier.halo))):
            raise InputError(
                f"stage {stage.name} needs stage {earlier.name}, which is not complete "
                f"({left} of {len(earlier.lattice.indices())} blocks left)"
            )
        if not set(earlier.outputs).isdisjoint(stage.inputs) and (lost := missing_blocks(workspace, earlier)):
            raise InputError(
                f"stage {stage.name} needs files of stage {earlier.name}, which are missing for {counted(lost)}",
                hint=f"recompute them: neuroseg segment {workspace.path}",
            )

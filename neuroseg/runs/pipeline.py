"""Predict, segment or run: resolve the options, check that the stages can run, run them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from neuroseg.errors import InputError, unknown_name
from neuroseg.execution.block import ledger_of
from neuroseg.execution.cluster.site import NO_CLUSTER, Cluster
from neuroseg.execution.cluster.slurm import cancel_leftovers
from neuroseg.execution.listener import remove_secrets
from neuroseg.execution.task import Begin, Executor, Task
from neuroseg.execution.task import silent as silent
from neuroseg.runs.damage import restart_of
from neuroseg.runs.edits import read_edits, require_tree_for
from neuroseg.runs.executors import Executors
from neuroseg.runs.finished import is_finished, views_of
from neuroseg.runs.groups import in_groups, run_all
from neuroseg.runs.in_memory import segmentation_of as segmentation_of
from neuroseg.runs.inputs import describe_changes, require_mask, require_same_input
from neuroseg.runs.methods import check_methods
from neuroseg.runs.needed import require_held, require_inputs
from neuroseg.runs.options import Options
from neuroseg.runs.plan import PREDICTION, SEGMENTATION, Plan, read_plan, write_plan
from neuroseg.runs.resolve import plan_of_run, plan_of_segmentation
from neuroseg.runs.space_needed import needed_bytes
from neuroseg.runs.stages import StageSummary
from neuroseg.segmentation.stage import PyramidStage, RelabelStage
from neuroseg.stage import Stage
from neuroseg.storage.cleaning import STREAM, intermediates, remove
from neuroseg.storage.labels import remove_unfinished
from neuroseg.storage.naming import is_workspace
from neuroseg.storage.space import require_space
from neuroseg.storage.trees import remove_all
from neuroseg.storage.workspace import Workspace, workspace_of

_RESTARTABLE = ("affinities", "fragments", "edges", "agglomeration", "relabel")
_REDONE_WITHOUT_ASKING = ("lookup", "relabel", "pyramid")

Outcome = tuple[Workspace, list[StageSummary]]


def predict(
    options: Options, *, restart: str | None = None, begin: Begin = silent, cluster: Cluster = NO_CLUSTER
) -> Outcome:
    """Predict the affinities of a volume. Return the workspace and a summary of each stage."""
    workspace, plan, options = plan_of_run(options, cluster)
    return _execute(workspace, plan, options, PREDICTION, restart, begin, cluster)


def segment(
    options: Options,
    *,
    restart: str | None = None,
    begin: Begin = silent,
    cluster: Cluster = NO_CLUSTER,
) -> Outcome:
    """Segment the affinities in a workspace, or given affinities or boundaries. See `predict`."""
    brought = options.affinities or options.boundaries
    if brought:
        workspace, plan, options = plan_of_run(options, cluster)
    else:
        is_kept = options.mask is None
        workspace, plan, options = plan_of_segmentation(options)
        if is_kept and plan.mask is not None:
            require_mask(plan, plan.mask)  # the mask determines the blocks
    return _execute(workspace, plan, options, SEGMENTATION, restart, begin, cluster)


def run(
    options: Options,
    *,
    restart: str | None = None,
    begin: Begin = silent,
    cluster: Cluster = NO_CLUSTER,
) -> Outcome:
    """Predict and segment. See `predict`."""
    workspace, plan, options = plan_of_run(options, cluster)
    return _execute(workspace, plan, options, PREDICTION + SEGMENTATION, restart, begin, cluster)


def _execute(
    workspace: Workspace,
    plan: Plan,
    options: Options,
    names: Sequence[str],
    restart: str | None,
    begin: Begin,
    cluster: Cluster,
) -> Outcome:
    """Run the stages in `names`, recomputing from `restart` on. The levels of a pyramid count as `pyramid`."""
    if names != PREDICTION:
        check_methods(plan, options)
        require_tree_for(plan, read_edits(workspace).active, workspace)
    plan = plan.model_copy(update={"edits": read_edits(workspace).active})
    every = plan.stages(workspace)
    stages = [stage for stage in every if stage.name.split("-")[0] in names]
    _require_no_later_reader(options, every)
    first = _restart_index(restart, every, stages)
    if plan.mask is not None and not plan.lattice.blocks():
        raise InputError(f"the mask {plan.mask.path} has no voxel in the region {plan.roi}")
    if not options.force and isinstance(workspace.artifacts, Path):
        stream = options.keep == STREAM
        require_space(workspace.path, needed_bytes(workspace, stages, len(plan.offsets), stream=stream))
    with workspace.locked(), Executors(workspace, plan, stages, cluster) as executors:
        remove_secrets(workspace.path)
        cancel_leftovers(workspace.path)
        _require_possible(workspace, plan, every, stages, first)
        write_plan(workspace, plan, options)
        if restart is not None:
            _discard(workspace, every[first:])
        choose = partial(_executor, workspace, plan, executors)
        summaries = run_all(workspace, plan, every, in_groups(stages), choose, begin, stream=options.keep == STREAM)
        if views_of(stages):
            _remove_what_is_not_kept(workspace, every, options.keep or "all")
        return workspace, summaries


def _require_possible(
    workspace: Workspace, plan: Plan, every: Sequence[Stage], stages: Sequence[Stage], first: int
) -> None:
    """Raise InputError if `stages` cannot run, before anything changes. Those from `first` in `every` are restarted."""
    if plan.kind == "raw" and not any(stage.name == PREDICTION[-1] for stage in stages):
        _require_affinities(workspace, plan, plan.affinities_stage(workspace))
    in_words = describe_changes(read_plan(workspace), plan) if is_workspace(workspace.path) else {}
    for stage in every[:first]:
        if stage in stages and stage.name.split("-")[0] not in _REDONE_WITHOUT_ASKING:
            blocks = stage.lattice.blocks(stage.halo)
            ledger_of(workspace, stage).require_same(restart_of(stage.name), in_words, blocks)
    require_held(workspace, every, in_groups(stages), restarted=every[first:])
    if first < len(every):
        require_inputs(workspace, every, first)
        for stage in every[first:]:
            require_same_input(workspace, plan, stage)
    elif (pending := _first_pending(workspace, plan, stages)) is not None:
        require_inputs(workspace, every, every.index(pending))


def _remove_what_is_not_kept(workspace: Workspace, every: Sequence[Stage], keep: str) -> None:
    """Remove the intermediate artifacts that are not kept, and partly released ones, which must not look complete."""
    for ledger in [ledger_of(workspace, stage) for stage in every if stage.name == PREDICTION[-1]]:
        if keep == STREAM or len(ledger.released()):
            ledger.release_all()
            remove(intermediates(workspace, STREAM))
    remove(intermediates(workspace, keep))


def _require_no_later_reader(options: Options, every: Sequence[Stage]) -> None:
    """Raise InputError if --keep stream would delete affinities that a later group of stages reads."""
    makers = [stage for stage in every if stage.name == PREDICTION[-1]]
    if options.keep != STREAM or not makers:
        return
    later = [stage for group in in_groups(every) for stage in group if makers[0] not in group]
    if readers := [stage.name for stage in later if not set(makers[0].outputs).isdisjoint(stage.inputs)]:
        raise InputError(
            f"--keep stream deletes affinities that stage {readers[0]} reads with --agglomeration "
            f"{options.agglomeration}",
            hint="use --keep fragments, or --agglomeration tree",
        )


def _first_pending(workspace: Workspace, plan: Plan, stages: Sequence[Stage]) -> Stage | None:
    """Return the first stage with pending blocks, or None."""
    if views_of(stages) and is_finished(workspace, plan):
        stages = [stage for stage in stages if not isinstance(stage, RelabelStage | PyramidStage)]
    return next(
        (stage for stage in stages if ledger_of(workspace, stage).pending(stage.lattice.blocks(stage.halo))), None
    )


def _restart_index(restart: str | None, every: Sequence[Stage], stages: Sequence[Stage]) -> int:
    """Return the index in `every` of the first restarted stage, or its length without a restart."""
    if restart is None:
        return len(every)
    valid = [name for name in _RESTARTABLE if any(stage.name.split("-")[0] == name for stage in stages)]
    if restart not in (*valid, "all"):
        raise unknown_name("stage to restart", restart, [*valid, "all"])
    if restart in ("all", "affinities"):
        return every.index(stages[0])
    first = "lookup" if restart == "relabel" else restart
    return next(index for index, stage in enumerate(every) if stage.name.split("-")[0] == first)


def _executor(workspace: Workspace, plan: Plan, executors: Executors, tasks: Sequence[Task]) -> Executor:
    """Return the executor of tasks. First check their inputs, because blocks may also be recomputed."""
    for task in tasks:
        require_same_input(workspace, plan, task.stage)
    return executors.choose(tasks)


def _require_affinities(workspace: Workspace, plan: Plan, stage: Stage) -> None:
    """Raise InputError unless all blocks of affinities are done."""
    left = len(ledger_of(workspace, stage).pending(stage.lattice.blocks(stage.halo)))
    if left:
        raise InputError(f"{left} blocks of affinities are missing", hint=f"run neuroseg predict {plan.path} first")


def _discard(workspace: Workspace, stages: Sequence[Stage]) -> None:
    """Remove the marks and artifacts of the restarted stages."""
    for stage in stages:
        ledger_of(workspace, stage).forget()
        for output in stage.outputs:
            remove_all(workspace.artifact(output))
    remove_all(workspace.segmentation)
    remove_unfinished(workspace)


def workspace_at(path: str) -> tuple[Workspace, Plan]:
    """Return the workspace at a path, and its plan."""
    workspace = workspace_of(path)
    return workspace, read_plan(workspace)

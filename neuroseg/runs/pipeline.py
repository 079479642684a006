"""Joins the rooms: blockwise through the stages, and in memory for training's validation and notebooks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from neuroseg.blocks import Block
from neuroseg.errors import InputError, unknown_name
from neuroseg.execution.block import Begin, Choose, Executor, ledger_of
from neuroseg.execution.cluster.site import NO_CLUSTER, Cluster
from neuroseg.execution.cluster.slurm import cancel_leftovers
from neuroseg.execution.door import forget_secrets
from neuroseg.runs.damage import as_published, replace_missing, restart_of
from neuroseg.runs.executors import Executors
from neuroseg.runs.finished import is_finished, is_published, published_mark, views_of, wanted_mark
from neuroseg.runs.in_memory import segmentation_of as segmentation_of
from neuroseg.runs.inputs import changes_in_words, reads_input, require_input, require_mask, unchanged_input
from neuroseg.runs.methods import check_methods
from neuroseg.runs.options import Options
from neuroseg.runs.plan import PREDICTION, SEGMENTATION, Plan, read_plan, write_plan
from neuroseg.runs.resolve import plan_of_run, plan_of_segmentation
from neuroseg.runs.space_needed import needed_bytes
from neuroseg.runs.stages import StageSummary, run_stage
from neuroseg.segmentation.stage import PyramidStage, RelabelStage, finish_metadata
from neuroseg.stage import Stage
from neuroseg.storage.cleaning import intermediates, remove
from neuroseg.storage.naming import is_workspace
from neuroseg.storage.publish import publish_text
from neuroseg.storage.space import require_space
from neuroseg.storage.trees import remove_all
from neuroseg.storage.workspace import Workspace, workspace_of

_RESTARTABLE = ("affinities", "fragments", "edges", "agglomeration", "relabel")
_REDONE_WITHOUT_ASKING = ("lookup", "relabel", "pyramid")
# What a segmentation says of its making.
_MADE_BY = ("fragments", "scoring", "agglomeration", "threshold", "roi")

Outcome = tuple[Workspace, list[StageSummary]]


def silent(stage: str, blocks: int, voxels: int) -> Callable[[int, int], None]:
    """Return an observer that shows nothing."""
    return lambda done, failed: None


def predict(
    options: Options, *, restart: str | None = None, begin: Begin = silent, cluster: Cluster = NO_CLUSTER
) -> Outcome:
    """Predict the affinities of a volume; returns the workspace and what was done."""
    workspace, plan, options = plan_of_run(options)
    return _execute(workspace, plan, options, PREDICTION, restart, begin, cluster)


def segment(
    options: Options,
    *,
    restart: str | None = None,
    begin: Begin = silent,
    cluster: Cluster = NO_CLUSTER,
) -> Outcome:
    """Segment the affinities in a workspace, or affinities or boundaries from elsewhere."""
    brought = options.affinities or options.boundaries
    if brought:
        workspace, plan, options = plan_of_run(options)
    else:
        is_kept = options.mask is None
        workspace, plan, options = plan_of_segmentation(options)
        if is_kept and plan.mask is not None:
            require_mask(plan, plan.mask)  # it says which blocks there are
    return _execute(workspace, plan, options, SEGMENTATION, restart, begin, cluster)


def run(
    options: Options,
    *,
    restart: str | None = None,
    begin: Begin = silent,
    cluster: Cluster = NO_CLUSTER,
) -> Outcome:
    """Predict and segment."""
    workspace, plan, options = plan_of_run(options)
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
    """Run the stages called `names` (a pyramid's levels count as `pyramid`), after a restart where one is asked for."""
    if names != PREDICTION:
        check_methods(plan, options)
    every = plan.stages(workspace)
    stages = [stage for stage in every if stage.name.split("-")[0] in names]
    first = _restart_index(restart, every, stages)
    if plan.mask is not None and not plan.lattice.indices():
        raise InputError(f"the mask {plan.mask.path} has no voxel in the region {plan.roi}; nothing would be segmented")
    if not options.force and isinstance(workspace.artifacts, Path):
        require_space(workspace.path, needed_bytes(workspace, stages, len(plan.offsets)))
    with workspace.locked(), Executors(workspace, plan, stages, cluster) as executors:
        forget_secrets(workspace.path)
        cancel_leftovers(workspace.path)
        if plan.kind == "raw" and PREDICTION[-1] not in names:
            _require_affinities(workspace, plan, plan.affinities_stage(workspace))
        in_words = changes_in_words(read_plan(workspace), plan) if is_workspace(workspace.path) else {}
        for stage in every[:first]:
            if stage in stages and stage.name.split("-")[0] not in _REDONE_WITHOUT_ASKING:
                blocks = list(stage.lattice.blocks(stage.halo))
                ledger_of(workspace, stage).require_same(restart_of(stage.name), in_words, blocks)
        if restart is not None:
            _require_inputs(workspace, every, first)
            for stage in every[first:]:
                require_brought(workspace, plan, stage)
        elif (pending := _first_pending(workspace, plan, stages)) is not None:
            _require_inputs(workspace, every, every.index(pending))
        write_plan(workspace, plan, options)
        if restart is not None:
            _discard(workspace, every[first:])
        choose = partial(_executor, workspace, plan, executors)
        summaries = _run_all(workspace, plan, every, stages, choose, begin)
        if views_of(stages):
            remove(intermediates(workspace, options.keep or "all"))
        return workspace, summaries


def _first_pending(workspace: Workspace, plan: Plan, stages: Sequence[Stage]) -> Stage | None:
    """Return the first stage that has something to do, None where all of it is done."""
    if views_of(stages) and is_finished(workspace, plan):
        stages = [stage for stage in stages if not isinstance(stage, RelabelStage | PyramidStage)]
    return next(
        (stage for stage in stages if ledger_of(workspace, stage).pending(list(stage.lattice.blocks(stage.halo)))), None
    )


def _restart_index(restart: str | None, every: Sequence[Stage], stages: Sequence[Stage]) -> int:
    """Return where in `every` the restart begins; its length when there is none."""
    if restart is None:
        return len(every)
    valid = [name for name in _RESTARTABLE if any(stage.name == name for stage in stages)]
    if restart not in (*valid, "all"):
        raise unknown_name("stage to restart", restart, [*valid, "all"])
    if restart in ("all", "affinities"):
        return every.index(stages[0])
    first = "lookup" if restart == "relabel" else restart
    return next(index for index, stage in enumerate(every) if stage.name == first)


def _run_all(
    workspace: Workspace,
    plan: Plan,
    every: Sequence[Stage],
    stages: Sequence[Stage],
    choose: Choose,
    begin: Begin,
) -> list[StageSummary]:
    """Run what is pending; whatever follows a stage that has to run is not done any more, whoever marked it."""
    views = views_of(stages)
    published, wanted = published_mark(workspace), wanted_mark(plan, views)
    if views and not views[0].aside.exists() and not is_published(workspace, published, wanted):
        for view in views:
            ledger_of(workspace, view).forget()
    workspace.remove_unfinished_segmentations(keep=views[0].aside if views else None)
    for stage in every[: every.index(stages[0])]:
        replace_missing(workspace, every, stage, choose, begin)
    summaries = []
    for stage in stages:
        if stage in views and is_published(workspace, published, wanted):
            stored = as_published(workspace, every)
            replace_missing(workspace, stored, stored[every.index(stage)], choose, begin)
            summaries.append(StageSummary(stage.name, 0, 0, 0.0, 0))
            continue
        replace_missing(workspace, every, stage, choose, begin)
        ledger = ledger_of(workspace, stage)
        pending = ledger.pending(list(stage.lattice.blocks(stage.halo)))
        if (pending or stage is stages[-1]) and _removed(workspace, [stage], every[every.index(stage) + 1 :]):
            # Marks of what was removed must not pass for voxels: all of it is made again.
            ledger.forget_blocks()
            pending = list(stage.lattice.blocks(stage.halo))
        if pending:
            _require_inputs(workspace, every, every.index(stage))
            require_brought(workspace, plan, stage)
        if pending and stage not in views:
            _invalidate(workspace, published, every[every.index(stage) + 1 :], keep_labels=stage.name == "lookup")
        with unchanged_input(plan, workspace, stage, partial(ledger.clear, pending)) if pending else nullcontext():
            summaries.append(run_stage(workspace, every, stage, pending, choose, begin))
    if views and not is_published(workspace, published, wanted):
        made_by = {name: getattr(plan, name) for name in _MADE_BY}
        levels = [stage for stage in views if isinstance(stage, PyramidStage)]
        finish_metadata(views[0].aside, levels, plan.grid, made_by)
        workspace.publish_segmentation(views[0].aside)
        publish_text(published, wanted)
    return summaries


def _require_inputs(workspace: Workspace, every: Sequence[Stage], first: int) -> None:
    """Raise InputError when the stages from `first` on read what earlier ones had made and was removed."""
    earliest = first
    while lost := _removed(workspace, every[:earliest], every[earliest:]):
        earliest = every.index(lost[0][0])
        path = workspace.artifact(lost[0][1])
    if earliest < first:
        name = every[earliest].name
        raise InputError(
            f"stage {every[first].name} needs what was removed, {path} at the earliest; make it again with neuroseg "
            f"{'run' if name in PREDICTION else 'segment'} --restart {restart_of(name)}. Nothing was changed"
        )


def _removed(workspace: Workspace, made: Sequence[Stage], reading: Sequence[Stage]) -> list[tuple[Stage, str]]:
    """Return what the stages in `made` have done, those in `reading` need, and is not there any more."""
    needed = {name for stage in reading for name in stage.inputs}
    return [
        (stage, name)
        for stage in made
        for name in stage.outputs
        # What views make lies aside until all of them are done.
        if name in needed and not isinstance(stage, RelabelStage | PyramidStage)
        if not workspace.artifact(name).exists() and ledger_of(workspace, stage).done()
    ]


def _invalidate(workspace: Workspace, published: Path, later: Sequence[Stage], *, keep_labels: bool) -> None:
    """Unmark the stages that follow one that is about to run; labels of other fragments must not look complete.

    Another threshold (`keep_labels`) leaves the segmentation in place until the new one is swapped in.
    """
    for stage in later:
        ledger_of(workspace, stage).forget_blocks()
    published.unlink(missing_ok=True)
    if not keep_labels:
        remove_all(workspace.segmentation)


def _executor(
    workspace: Workspace, plan: Plan, executors: Executors, stage: Stage, pending: Sequence[Block]
) -> Executor:
    """Return what runs a stage. What the stage reads of the user's is compared first: blocks are also done again."""
    require_brought(workspace, plan, stage)
    return executors.choose(stage, pending)


def require_brought(workspace: Workspace, plan: Plan, stage: Stage) -> None:
    """Raise RunRefusedError where a stage reads an input that is not what the workspace was made of."""
    if reads_input(plan, stage):
        require_input(plan, workspace)


def _require_affinities(workspace: Workspace, plan: Plan, stage: Stage) -> None:
    """Raise InputError unless the run's affinities are complete."""
    left = len(ledger_of(workspace, stage).pending(list(stage.lattice.blocks(stage.halo))))
    if left:
        raise InputError(f"{left} blocks of affinities are missing; run neuroseg predict {plan.path} first")


def _discard(workspace: Workspace, stages: Sequence[Stage]) -> None:
    """Remove the marks and artifacts of a stage that is restarted and of all that follow."""
    for stage in stages:
        ledger_of(workspace, stage).forget()
        for output in stage.outputs:
            remove_all(workspace.artifact(output))
    remove_all(workspace.segmentation)
    workspace.remove_unfinished_segmentations()


def workspace_at(path: str) -> tuple[Workspace, Plan]:
    """Return a workspace that exists, and its plan."""
    workspace = workspace_of(path)
    return workspace, read_plan(workspace)

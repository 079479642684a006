"""Run the stages in groups. In a group, a block of any stage starts when the blocks that it reads are done.

    affinities -> fragments -> edges     agglomeration-1 -> ... -> agglomeration     lookup     relabel -> pyramid

For each group: recompute missing files of done blocks, find the pending blocks, unmark the later stages, run the group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from neuroseg.agglomeration.stage import AgglomerationStage
from neuroseg.execution.block import ledger_of
from neuroseg.execution.task import Begin, Choose
from neuroseg.runs.damage import as_published, recompute_missing
from neuroseg.runs.finished import is_published, published_mark, views_of, wanted_mark
from neuroseg.runs.inputs import reads_input, require_same_input, unchanged_input
from neuroseg.runs.needed import removed, require_held, require_inputs
from neuroseg.runs.pending import Pending, with_released
from neuroseg.runs.plan import PREDICTION, Plan
from neuroseg.runs.stages import StageSummary, run_stages
from neuroseg.runs.streaming import Streaming
from neuroseg.runs.temporary import remove_temporary
from neuroseg.segmentation.stage import PyramidStage, RelabelStage, finish_metadata
from neuroseg.stage import Stage
from neuroseg.storage.labels import publish_segmentation, remove_unfinished
from neuroseg.storage.publish import publish_text
from neuroseg.storage.trees import remove_all
from neuroseg.storage.workspace import Workspace

_CONCURRENT = {
    "affinities": "edges", "fragments": "edges", "edges": "edges", "relabel": "pyramid", "pyramid": "pyramid"
}  # fmt: skip
# Settings that the attributes of a segmentation record.
_SETTINGS = ("fragments", "scoring", "agglomeration", "threshold", "roi")


def run_all(
    workspace: Workspace,
    plan: Plan,
    every: Sequence[Stage],
    groups: Sequence[Sequence[Stage]],
    choose: Choose,
    begin: Begin,
    *,
    stream: bool,
) -> list[StageSummary]:
    """Run the pending blocks of each group.

    If a stage runs, all stages after it are unmarked and run again. Temporary artifacts are removed after the group
    that reads them. With `stream`, the affinities of a block are deleted as soon as all blocks that read them are done.
    """
    stages = [stage for group in groups for stage in group]
    views = views_of(stages)
    published, wanted = published_mark(workspace), wanted_mark(plan, views)
    aside = views[0].aside if views else ""
    if views and not workspace.artifact(aside).exists() and not is_published(workspace, published, wanted):
        for view in views:
            ledger_of(workspace, view).forget()
    remove_unfinished(workspace, keep=aside)
    for stage in every[: every.index(stages[0])]:
        recompute_missing(workspace, every, stage, choose, begin)
    summaries = []
    for number, group in enumerate(groups):
        if group[0] in views and is_published(workspace, published, wanted):
            summaries += _recompute_published(workspace, every, group, choose, begin)
        else:
            pending = _prepare_group(workspace, plan, every, groups[number:], choose, begin)
            with _unchanged(workspace, plan, pending):
                summaries += _run_together(workspace, every, pending, choose, begin, stream=stream)
        remove_temporary(workspace, every)
    if views and not is_published(workspace, published, wanted):
        made_by = {name: getattr(plan, name) for name in _SETTINGS}
        levels = [stage for stage in views if isinstance(stage, PyramidStage)]
        relabel = next(stage for stage in views if isinstance(stage, RelabelStage))
        finish_metadata(relabel, levels, plan.grid, made_by)
        publish_segmentation(workspace, aside)
        publish_text(published, wanted)
    return summaries


def _recompute_published(
    workspace: Workspace, every: Sequence[Stage], group: Sequence[Stage], choose: Choose, begin: Begin
) -> list[StageSummary]:
    """Recompute missing blocks of the published segmentation in place."""
    stored = as_published(workspace, every)
    for stage in group:
        recompute_missing(workspace, stored, stored[every.index(stage)], choose, begin)
    return [StageSummary(stage.name, 0, 0, 0.0, 0) for stage in group]


def _prepare_group(
    workspace: Workspace,
    plan: Plan,
    every: Sequence[Stage],
    groups: Sequence[Sequence[Stage]],
    choose: Choose,
    begin: Begin,
) -> list[Pending]:
    """Return the pending blocks of the first of these groups, after unmarking the stages after it.

    Blocks that are pending only because they were released do not unmark later stages.
    """
    group = groups[0]
    found = _pending_of(workspace, every, group, choose, begin, is_last=len(groups) == 1)
    require_held(workspace, every, groups, found)
    for each in [each for each in found if each.blocks]:
        require_inputs(workspace, every, every.index(each.stage))
        require_same_input(workspace, plan, each.stage)
    if any(each.blocks for each in found) and not views_of(group):
        later = every[every.index(group[-1]) + 1 :]
        _invalidate(workspace, published_mark(workspace), later, keep_labels=group[-1].name == "lookup")
    return with_released(workspace, found)


def in_groups(stages: Sequence[Stage]) -> list[list[Stage]]:
    """Return the stages in groups that run concurrently, in order."""
    groups: list[list[Stage]] = []
    for stage in stages:
        if groups and _group_of(groups[-1][0]) == _group_of(stage):
            groups[-1].append(stage)
        else:
            groups.append([stage])
    return groups


def _group_of(stage: Stage) -> str:
    """Return the name that the stages of a group share.

    A second pass of a pyramid has so large blocks that all blocks of full resolution in one of them would be too many.
    """
    return _CONCURRENT.get(stage.name, "agglomeration" if isinstance(stage, AgglomerationStage) else stage.name)


def _pending_of(
    workspace: Workspace, every: Sequence[Stage], group: Sequence[Stage], choose: Choose, begin: Begin, *, is_last: bool
) -> list[Pending]:
    """Return the pending blocks of each stage of a group, after recomputing missing blocks of complete stages."""
    found: list[Pending] = []
    for stage in group:
        ledger, is_partial = ledger_of(workspace, stage), any(each.blocks for each in found)
        recompute_missing(workspace, every, stage, choose, begin, now=not is_partial)
        pending = ledger.pending(stage.lattice.blocks(stage.halo))
        if (pending or is_partial or (is_last and stage is group[-1])) and removed(
            workspace, [stage], every[every.index(stage) + 1 :]
        ):
            # Marks of removed files are invalid. Recompute the whole stage.
            ledger.forget_blocks()
            pending = stage.lattice.blocks(stage.halo)
        found.append(Pending(stage, pending))
    return found


def _run_together(
    workspace: Workspace,
    every: Sequence[Stage],
    pending: Sequence[Pending],
    choose: Choose,
    begin: Begin,
    *,
    stream: bool,
) -> list[StageSummary]:
    """Run what is pending of a group; with `stream`, affinities that it makes and reads are released."""
    maker, stages = next((stage for stage in every if stage.name == PREDICTION[-1]), None), [p.stage for p in pending]
    if not stream or maker not in stages or len(stages) == 1:
        return run_stages(workspace, every, pending, choose, begin)
    streaming = Streaming(workspace, maker)
    summaries = run_stages(workspace, every, pending, choose, begin, streaming.attach)
    return [
        replace(summary, peak_disk_bytes=streaming.peak_disk_bytes) if summary.stage == maker.name else summary
        for summary in summaries
    ]


@contextmanager
def _unchanged(workspace: Workspace, plan: Plan, pending: Sequence[Pending]) -> Iterator[None]:
    """Check that the input does not change while stages run. If it changes, unmark all blocks that ran."""
    reading = [each.stage for each in pending if each.blocks and reads_input(plan, each.stage)]

    def forget() -> None:
        for each in pending:
            ledger_of(workspace, each.stage).clear(each.blocks)

    with unchanged_input(plan, workspace, reading[0], forget) if reading else nullcontext():
        yield


def _invalidate(workspace: Workspace, published: Path, later: Sequence[Stage], *, keep_labels: bool) -> None:
    """Unmark the stages after one that is about to run, and remove the segmentation, which is outdated.

    With `keep_labels` (only the threshold changed), the old segmentation stays until the new one replaces it.
    """
    for stage in later:
        ledger_of(workspace, stage).forget_blocks()
    published.unlink(missing_ok=True)
    if not keep_labels:
        remove_all(workspace.segmentation)

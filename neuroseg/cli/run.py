"""The commands `predict`, `segment` and `run`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from neuroseg.cli import options as option
from neuroseg.cli import progress
from neuroseg.cli.summary import print_json, print_summary, run_summary
from neuroseg.errors import BlocksFailedError

if TYPE_CHECKING:
    from neuroseg.execution.cluster.site import Cluster
    from neuroseg.runs.options import Options
    from neuroseg.runs.stages import StageSummary
    from neuroseg.storage.workspace import Workspace

_THRESHOLD_STEP = 0.1
_SEGMENTATION_STAGES = "fragments, edges, agglomeration, relabel"
_PredictionRestart = Annotated[str | None, option.restart("affinities or all")]
_SegmentationRestart = Annotated[str | None, option.restart(f"{_SEGMENTATION_STAGES} or all")]
_RunRestart = Annotated[str | None, option.restart(f"affinities, {_SEGMENTATION_STAGES} or all")]


def predict(
    volume: option.RawVolume,
    output: option.Output = None,
    input: option.NewInput = None,
    blocks: option.Blocks = None,
    model: option.Model = None,
    device: option.Device = None,
    blend: option.Blend = None,
    tta: option.Tta = None,
    level: option.Level = None,
    axes: option.Axes = None,
    channel: option.Channel = None,
    time: option.Time = None,
    range: option.Range = None,
    invert: option.Invert = False,
    normalise: option.Normalise = None,
    force: option.Force = False,
    voxel_size: option.VoxelSize = None,
    roi: option.Roi = None,
    mask: option.Mask = None,
    workers: option.Workers = None,
    executor: option.ExecutorName = None,
    cluster: option.ClusterName = None,
    dask_address: option.DaskAddress = None,
    block_timeout: option.BlockTimeout = None,
    config: option.Config = None,
    restart: _PredictionRestart = None,
    report: option.Report = True,
    json: option.Json = False,
) -> None:
    """Predict affinities from a raw volume.

    Use it to predict on a GPU machine and segment elsewhere. Otherwise use neuroseg run, which does both. To resume,
    run the same command again. The workspace remembers the options, except --force and --roi.

    \b
    Examples:
      neuroseg predict volume.zarr
      neuroseg predict volume.zarr --device cuda --roi 0:128,:,:
    """
    from neuroseg.runs import pipeline

    options = _options(
        config, volume=volume, output=output, input=input, blocks=blocks, model=model, device=device, blend=blend,
        tta=tta, level=level,
        axes=axes, channel=channel, time=time, range=range, invert=invert, normalise=normalise, force=force,
        voxel_size=voxel_size, roi=roi, mask=mask, workers=workers, executor=executor, block_timeout=block_timeout,
    )  # fmt: skip
    where = _cluster(cluster, dask_address)
    began = monotonic()
    with _report_of_failure(options, is_wanted=report):
        workspace, summaries = pipeline.predict(options, restart=restart, begin=progress.begin, cluster=where)
    _finish(workspace, summaries, monotonic() - began, [f"neuroseg segment {workspace.path}"], report=report, json=json)


def segment(
    volume: Annotated[
        str | None, typer.Argument(metavar="VOLUME", help="Workspace of a prediction, or the volume it belongs to.")
    ] = None,
    output: option.Output = None,
    input: option.NewInput = None,
    affinities: option.Affinities = None,
    boundaries: option.Boundaries = None,
    offsets: option.Offsets = None,
    axes: option.Axes = None,
    channel: option.Channel = None,
    time: option.Time = None,
    blocks: option.Blocks = None,
    threshold: option.Threshold = None,
    scoring: option.Scoring = None,
    agglomeration: option.Agglomeration = None,
    fragments: option.Fragments = None,
    per_section: option.PerSection = None,
    mask_boundary: option.MaskBoundary = None,
    long_range: option.LongRange = None,
    min_size: option.MinSize = None,
    small: option.Small = None,
    keep: option.Keep = None,
    force: option.Force = False,
    voxel_size: option.VoxelSize = None,
    roi: option.StoredRoi = None,
    mask: option.Mask = None,
    workers: option.Workers = None,
    executor: option.ExecutorName = None,
    cluster: option.ClusterName = None,
    dask_address: option.DaskAddress = None,
    block_timeout: option.BlockTimeout = None,
    memory: option.Memory = None,
    config: option.Config = None,
    restart: _SegmentationRestart = None,
    report: option.Report = True,
    json: option.Json = False,
) -> None:
    """Segment affinities or a boundary map.

    Use it after neuroseg predict, to try another --threshold, or to segment the output of another network. With
    --affinities or --boundaries, -o is required. To resume, run the same command again. The workspace remembers the
    options, except --force and --keep.

    \b
    Examples:
      neuroseg segment volume.neuroseg --threshold 0.4
      neuroseg segment --affinities affinities.zarr -o other.neuroseg
      neuroseg segment --boundaries boundaries.h5:data -o other.neuroseg
    """
    from neuroseg.runs import pipeline

    options = _options(
        config, volume=volume, output=output, input=input, affinities=affinities, boundaries=boundaries,
        offsets=offsets,
        axes=axes, channel=channel, time=time, blocks=blocks, threshold=threshold, scoring=scoring,
        agglomeration=agglomeration, fragments=fragments, per_section=per_section, mask_boundary=mask_boundary,
        long_range=long_range, min_size=min_size, small=small, keep=keep, force=force, voxel_size=voxel_size, roi=roi,
        mask=mask, workers=workers, executor=executor, block_timeout=block_timeout, memory=memory,
    )  # fmt: skip
    where = _cluster(cluster, dask_address)
    began = monotonic()
    with _report_of_failure(options, is_wanted=report):
        workspace, summaries = pipeline.segment(options, restart=restart, begin=progress.begin, cluster=where)
    _finish(workspace, summaries, monotonic() - began, _after_segmentation(workspace), report=report, json=json)


def run(
    volume: option.RawVolume,
    output: option.Output = None,
    input: option.NewInput = None,
    blocks: option.Blocks = None,
    model: option.Model = None,
    device: option.Device = None,
    blend: option.Blend = None,
    tta: option.Tta = None,
    level: option.Level = None,
    axes: option.Axes = None,
    channel: option.Channel = None,
    time: option.Time = None,
    range: option.Range = None,
    invert: option.Invert = False,
    normalise: option.Normalise = None,
    force: option.Force = False,
    threshold: option.Threshold = None,
    scoring: option.Scoring = None,
    agglomeration: option.Agglomeration = None,
    fragments: option.Fragments = None,
    per_section: option.PerSection = None,
    mask_boundary: option.MaskBoundary = None,
    long_range: option.LongRange = None,
    min_size: option.MinSize = None,
    small: option.Small = None,
    keep: option.Keep = None,
    voxel_size: option.VoxelSize = None,
    roi: option.Roi = None,
    mask: option.Mask = None,
    workers: option.Workers = None,
    executor: option.ExecutorName = None,
    cluster: option.ClusterName = None,
    dask_address: option.DaskAddress = None,
    block_timeout: option.BlockTimeout = None,
    memory: option.Memory = None,
    config: option.Config = None,
    restart: _RunRestart = None,
    report: option.Report = True,
    json: option.Json = False,
) -> None:
    """Segment a raw volume: predict affinities, then segment them.

    This is the command for most volumes. Convert TIFF or PNG sections with neuroseg import first. To resume, run the
    same command again. The workspace remembers the options, except --force, --keep and --roi.

    \b
    Examples:
      neuroseg run volume.zarr
      neuroseg run volume.zarr --roi 0:128,0:512,0:512 --workers 8
      neuroseg run volume.zarr --executor slurm --cluster lab.yaml
    """
    from neuroseg.runs import pipeline

    options = _options(
        config, volume=volume, output=output, input=input, blocks=blocks, model=model, device=device, blend=blend,
        tta=tta, level=level,
        axes=axes, channel=channel, time=time, range=range, invert=invert, normalise=normalise, force=force,
        threshold=threshold, scoring=scoring, agglomeration=agglomeration, fragments=fragments,
        per_section=per_section, mask_boundary=mask_boundary, long_range=long_range, min_size=min_size, small=small,
        keep=keep, voxel_size=voxel_size, roi=roi, mask=mask, workers=workers, executor=executor,
        block_timeout=block_timeout, memory=memory,
    )  # fmt: skip
    where = _cluster(cluster, dask_address)
    began = monotonic()
    with _report_of_failure(options, is_wanted=report):
        workspace, summaries = pipeline.run(options, restart=restart, begin=progress.begin, cluster=where)
    _finish(workspace, summaries, monotonic() - began, _after_segmentation(workspace), report=report, json=json)


def _after_segmentation(workspace: Workspace) -> Sequence[str]:
    """Return commands to try next: another threshold, if the merge tree is stored, and scores against ground truth."""
    from neuroseg.agglomeration.names import MERGE_TREE
    from neuroseg.runs.plan import read_plan

    plan = read_plan(workspace)
    score = f"neuroseg evaluate {workspace.path} --truth LABELS   (if you have ground truth)"
    if plan.agglomeration != MERGE_TREE or not workspace.tree.exists():
        return [score]
    other = plan.threshold - _THRESHOLD_STEP if plan.threshold > _THRESHOLD_STEP else plan.threshold + _THRESHOLD_STEP
    effect = "lower merges less" if other < plan.threshold else "higher merges more"
    return [f"neuroseg segment {workspace.path} --threshold {other:g}   (now {plan.threshold:g}; {effect})", score]


def _options(config: Path | None, **given: object) -> Options:
    from neuroseg.runs.options import options_from
    from neuroseg.storage.arrays import use_threads

    use_threads(1)
    return options_from(config, **given)


def _cluster(site: str | None, dask_address: str | None) -> Cluster:
    """Return where workers run. Only the command line sets it, because a cluster file can contain shell commands."""
    from neuroseg.execution.cluster.site import Cluster, site_named

    return Cluster(site_named(site) if site else None, dask_address)


@contextmanager
def _report_of_failure(options: Options, *, is_wanted: bool) -> Iterator[None]:
    """If blocks fail, write the report of the run before the error is printed."""
    try:
        yield
    except BlocksFailedError:
        if is_wanted:
            from neuroseg.report.write import write_at_end
            from neuroseg.runs.resolve import workspace_of_options

            if (path := write_at_end(workspace_of_options(options))) is not None:
                print(f"report: {path}", file=sys.stderr)
        raise


def _finish(
    workspace: Workspace,
    summaries: Sequence[StageSummary],
    took_s: float,
    next_steps: Sequence[str],
    *,
    report: bool,
    json: bool,
) -> None:
    """Write the report, and print the summary. `took_s` is the duration of the run."""
    from neuroseg.report.write import write_at_end

    content = run_summary(workspace, summaries, took_s)
    path = write_at_end(workspace) if report else None
    if json:
        print_json(content | ({"report": str(path)} if path else {}))
        return
    print_summary(content, next_steps)
    if path is not None:
        print(f"report: {path}", file=sys.stderr)

"""The commands `predict`, `segment` and `run`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neuroseg.cli import progress
from neuroseg.cli.selecting import Axes, Channel, Time
from neuroseg.cli.summary import print_json, print_summary, run_summary

if TYPE_CHECKING:
    from neuroseg.execution.cluster.site import Cluster
    from neuroseg.runs.options import Options
    from neuroseg.runs.stages import StageSummary
    from neuroseg.storage.workspace import Workspace

Triple = tuple[float, float, float]

_THRESHOLD_STEP = 0.1
Output = Annotated[
    str | None,
    typer.Option(
        "-o", "--output", help="Workspace, or s3://BUCKET/NAME.neuroseg; default V.neuroseg beside the volume."
    ),
]
Input = Annotated[
    str | None,
    typer.Option(metavar="NEW", help="Where the input lies now, if it moved since the workspace's last run."),
]
Blocks = Annotated[str | None, typer.Option(help="Block size in voxels, N or Z,Y,X (default 256).")]
Workers = Annotated[int | None, typer.Option(help="Worker processes (default: the cores this process may use).")]
ExecutorName = Annotated[
    str | None, typer.Option("--executor", help="local (workers on this machine, default), slurm, dask or serial.")
]
ClusterName = Annotated[
    str | None, typer.Option(metavar="SITE", help="What the cluster is like: a YAML file (default $NEUROSEG_CLUSTER).")
]
DaskAddress = Annotated[
    str | None,
    typer.Option(metavar="tcp://HOST:PORT", help="Dask's scheduler (default: a Dask cluster on this machine)."),
]
BlockTimeout = Annotated[
    float | None, typer.Option(help="Seconds after which a block is given to another worker (default 6 hours).")
]
RoiText = Annotated[str | None, typer.Option("--roi", help="z0:z1,y0:y1,x0:x1 in voxels; an end may be left out.")]
Config = Annotated[Path | None, typer.Option(help="YAML file with these options; flags win.")]
Restart = Annotated[
    str | None,
    typer.Option(help="Redo a stage and what follows: affinities, fragments, edges, agglomeration, relabel or all."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
VoxelSize = Annotated[Triple | None, typer.Option(metavar="Z Y X", help="Voxel size in nm; wins over the input's.")]
Model = Annotated[str | None, typer.Option(help="A bundled model's name (neuroseg models) or a bundle's folder.")]
Blend = Annotated[
    str | None,
    typer.Option(help="Where windows overlap: centre (keep the middle of each) or gaussian (weighted mean)."),
]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Level = Annotated[int | None, typer.Option(help="Pyramid level (default: nearest to the model's voxel size).")]
Range = Annotated[
    tuple[float, float] | None,
    typer.Option(metavar="LOW HIGH", help="Raw values that map to 0 and 255; LOW above HIGH inverts."),
]
Invert = Annotated[bool, typer.Option("--invert", help="Invert contrast: use this if membranes are bright.")]
Normalise = Annotated[
    str | None, typer.Option(help="sections: even out brightness and contrast of sections first; none (default).")
]
Force = Annotated[
    bool, typer.Option("--force", help="Run despite a disk that is too small, a distant voxel size or unusual values.")
]
Mask = Annotated[str | None, typer.Option(help="Segment only where this array, of any resolution, is not 0.")]
MaskBoundary = Annotated[
    float | None, typer.Option(help="Leave voxels of a smaller mean affinity (0 to 1) unsegmented.")
]
Threshold = Annotated[float | None, typer.Option(help="Merge below this score, 0 to 1 (default: the model's).")]
ScoringText = Annotated[str | None, typer.Option("--scoring", help="mean, quantile:Q or quantile:Q:all.")]
Fragments = Annotated[
    str | None,
    typer.Option(
        help="distance-basins (default), or to compare seeded-watershed, distance-watershed, mutex-watershed."
    ),
]
LongRange = Annotated[str | None, typer.Option(help="Long-range channels as evidence for edges too: on or off.")]
Agglomeration = Annotated[
    str | None, typer.Option(help="tree (default, every threshold); for comparison multicut, gaec or waterz.")
]
PerSection = Annotated[str | None, typer.Option(help="Fragments per section: auto, on or off.")]
MinSize = Annotated[str | None, typer.Option(help="Least segment, in voxels (500) or volume (0.01um3).")]
Keep = Annotated[
    str | None,
    typer.Option(
        help="Keep all (default), or less when done: fragments (another threshold stays possible) or only the "
        "segmentation. stream deletes each block's affinities as soon as they are used: for disks too small for them."
    ),
]
Small = Annotated[str | None, typer.Option(help="Smaller segments: merge (into the best neighbour) or drop.")]


def predict(
    volume: Annotated[str, typer.Argument(help="Raw volume: zarr array, OME-NGFF image or group with raw.")],
    output: Output = None,
    input: Input = None,
    blocks: Blocks = None,
    model: Model = None,
    device: Device = None,
    blend: Blend = None,
    level: Level = None,
    axes: Axes = None,
    channel: Channel = None,
    time: Time = None,
    range: Range = None,
    invert: Invert = False,
    normalise: Normalise = None,
    force: Force = False,
    voxel_size: VoxelSize = None,
    roi: RoiText = None,
    mask: Mask = None,
    workers: Workers = None,
    executor: ExecutorName = None,
    cluster: ClusterName = None,
    dask_address: DaskAddress = None,
    block_timeout: BlockTimeout = None,
    config: Config = None,
    restart: Restart = None,
    json: Json = False,
) -> None:
    """Predict affinities: raw volume -> WORKSPACE/affinities.zarr.

    \b
    Example: neuroseg predict volume.zarr --blocks 256 --workers 2
    """
    from neuroseg.runs import pipeline

    options = _options(
        config, volume=volume, output=output, input=input, blocks=blocks, model=model, device=device, blend=blend,
        level=level,
        axes=axes, channel=channel, time=time, range=range, invert=invert, normalise=normalise, force=force,
        voxel_size=voxel_size, roi=roi, mask=mask, workers=workers, executor=executor, block_timeout=block_timeout,
    )  # fmt: skip
    where = _cluster(cluster, dask_address)
    workspace, summaries = pipeline.predict(options, restart=restart, begin=progress.begin, cluster=where)
    _print(workspace, summaries, [f"neuroseg segment {workspace.path}"], json=json)


def segment(
    volume: Annotated[str | None, typer.Argument(help="The volume of a prediction, or its workspace.")] = None,
    output: Output = None,
    input: Input = None,
    affinities: Annotated[str | None, typer.Option(help="Affinities (c,z,y,x) of another network, with -o.")] = None,
    boundaries: Annotated[str | None, typer.Option(help="Boundary map (z,y,x), 1 = boundary, with -o.")] = None,
    offsets: Annotated[str | None, typer.Option(help="What channels link: '-1,0,0;0,-1,0;0,0,-1'.")] = None,
    axes: Axes = None,
    channel: Channel = None,
    time: Time = None,
    blocks: Blocks = None,
    threshold: Threshold = None,
    scoring: ScoringText = None,
    agglomeration: Agglomeration = None,
    fragments: Fragments = None,
    per_section: PerSection = None,
    mask_boundary: MaskBoundary = None,
    long_range: LongRange = None,
    min_size: MinSize = None,
    small: Small = None,
    keep: Keep = None,
    force: Force = False,
    voxel_size: VoxelSize = None,
    roi: RoiText = None,
    mask: Mask = None,
    workers: Workers = None,
    executor: ExecutorName = None,
    cluster: ClusterName = None,
    dask_address: DaskAddress = None,
    block_timeout: BlockTimeout = None,
    config: Config = None,
    restart: Restart = None,
    json: Json = False,
) -> None:
    """Segment affinities: fragments, edges, agglomeration, ids 1..N, pyramid.

    \b
    Examples: neuroseg segment volume.zarr --threshold 0.4
    neuroseg segment --affinities theirs.zarr --offsets='-1,0,0;0,-1,0;0,0,-1' -o theirs.neuroseg
    """
    from neuroseg.runs import pipeline

    options = _options(
        config, volume=volume, output=output, input=input, affinities=affinities, boundaries=boundaries,
        offsets=offsets,
        axes=axes, channel=channel, time=time, blocks=blocks, threshold=threshold, scoring=scoring,
        agglomeration=agglomeration, fragments=fragments, per_section=per_section, mask_boundary=mask_boundary,
        long_range=long_range, min_size=min_size, small=small, keep=keep, force=force, voxel_size=voxel_size, roi=roi,
        mask=mask, workers=workers, executor=executor, block_timeout=block_timeout,
    )  # fmt: skip
    where = _cluster(cluster, dask_address)
    workspace, summaries = pipeline.segment(options, restart=restart, begin=progress.begin, cluster=where)
    _print(workspace, summaries, _after_segmentation(workspace.path), json=json)


def run(
    volume: Annotated[str, typer.Argument(help="Raw volume: zarr array, OME-NGFF image or group with raw.")],
    output: Output = None,
    input: Input = None,
    blocks: Blocks = None,
    model: Model = None,
    device: Device = None,
    blend: Blend = None,
    level: Level = None,
    axes: Axes = None,
    channel: Channel = None,
    time: Time = None,
    range: Range = None,
    invert: Invert = False,
    normalise: Normalise = None,
    force: Force = False,
    threshold: Threshold = None,
    scoring: ScoringText = None,
    agglomeration: Agglomeration = None,
    fragments: Fragments = None,
    per_section: PerSection = None,
    mask_boundary: MaskBoundary = None,
    long_range: LongRange = None,
    min_size: MinSize = None,
    small: Small = None,
    keep: Keep = None,
    voxel_size: VoxelSize = None,
    roi: RoiText = None,
    mask: Mask = None,
    workers: Workers = None,
    executor: ExecutorName = None,
    cluster: ClusterName = None,
    dask_address: DaskAddress = None,
    block_timeout: BlockTimeout = None,
    config: Config = None,
    restart: Restart = None,
    json: Json = False,
) -> None:
    """Predict and segment: raw volume -> segmentation.

    \b
    Example: neuroseg run volume.zarr --blocks 256
    """
    from neuroseg.runs import pipeline

    options = _options(
        config, volume=volume, output=output, input=input, blocks=blocks, model=model, device=device, blend=blend,
        level=level,
        axes=axes, channel=channel, time=time, range=range, invert=invert, normalise=normalise, force=force,
        threshold=threshold, scoring=scoring, agglomeration=agglomeration, fragments=fragments,
        per_section=per_section, mask_boundary=mask_boundary, long_range=long_range, min_size=min_size, small=small,
        keep=keep, voxel_size=voxel_size, roi=roi, mask=mask, workers=workers, executor=executor,
        block_timeout=block_timeout,
    )  # fmt: skip
    where = _cluster(cluster, dask_address)
    workspace, summaries = pipeline.run(options, restart=restart, begin=progress.begin, cluster=where)
    _print(workspace, summaries, _after_segmentation(workspace.path), json=json)


def _after_segmentation(workspace: Path) -> Sequence[str]:
    """Return what a user may want to do next: another threshold near the stored one, scores against a truth."""
    from neuroseg.agglomeration.names import MERGE_TREE
    from neuroseg.runs.pipeline import workspace_at

    plan = workspace_at(str(workspace))[1]
    score = "score it against a ground truth: see neuroseg evaluate --help"
    if plan.agglomeration != MERGE_TREE:
        return [score]
    other = plan.threshold - _THRESHOLD_STEP if plan.threshold > _THRESHOLD_STEP else plan.threshold + _THRESHOLD_STEP
    return [f"neuroseg segment {workspace} --threshold {other:g}   (stored: {plan.threshold:g}; takes seconds)", score]


def _options(config: Path | None, **given: object) -> Options:
    from neuroseg.runs.options import options_from
    from neuroseg.storage.arrays import use_threads

    use_threads(1)
    return options_from(config, **given)


def _cluster(site: str | None, dask_address: str | None) -> Cluster:
    """Return where workers run. Only the command line may say so, because a cluster file can contain shell commands."""
    from neuroseg.execution.cluster.site import Cluster, site_named

    return Cluster(site_named(site) if site else None, dask_address)


def _print(workspace: Workspace, summaries: Sequence[StageSummary], next_steps: Sequence[str], *, json: bool) -> None:
    content = run_summary(workspace, summaries)
    if json:
        print_json(content)
    else:
        print_summary(content, next_steps)

"""The command `plan`: time, disk, memory and cost of a run, before it starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuroseg.cli import options as option
from neuroseg.cli import progress
from neuroseg.cli.command import WORKERS
from neuroseg.cli.summary import duration, print_json
from neuroseg.errors import InputError

if TYPE_CHECKING:
    from neuroseg.runs.planning import Planned

_PRICES = ("gpu_hour", "core_hour")


def plan(
    volume: Annotated[str | None, typer.Argument(metavar="VOLUME", help="Raw volume, as for neuroseg run.")] = None,
    output: option.Output = None,
    input: option.NewInput = None,
    affinities: option.Affinities = None,
    boundaries: option.Boundaries = None,
    offsets: option.Offsets = None,
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
    gpus: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Number of GPUs that predict.  [default: --workers, or those of this machine]",
            rich_help_panel=WORKERS,
        ),
    ] = None,
    executor: option.ExecutorName = None,
    cluster: option.ClusterName = None,
    dask_address: option.DaskAddress = None,
    block_timeout: option.BlockTimeout = None,
    memory: option.Memory = None,
    probe_jobs: Annotated[
        bool,
        typer.Option(
            "--probe-jobs",
            help="Measure in jobs of the cluster, on each kind of machine in the cluster file, instead of on this "
            "machine.",
            rich_help_panel=WORKERS,
        ),
    ] = False,
    probe_wait: Annotated[
        float,
        typer.Option(
            min=1, metavar="SECONDS", help="Time limit of --probe-jobs, with the queue.", rich_help_panel=WORKERS
        ),
    ] = 3600.0,
    price: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=PRICE",
            help="Price of an hour: gpu_hour=PRICE or core_hour=PRICE. Repeat it to give both.",
            rich_help_panel=WORKERS,
        ),
    ] = None,
    config: option.Config = None,
    json: option.Json = False,
) -> None:
    """Estimate time, disk, memory and cost of a run.

    Use it before a long run, with the options of neuroseg run. It computes up to three blocks of the volume in a
    temporary folder, and scales their measurements up. With --probe-jobs, it computes them on the machines of the
    cluster. After the run, the summary compares both. With --affinities or --boundaries, -o is required.

    \b
    Examples:
      neuroseg plan volume.zarr
      neuroseg plan volume.zarr --blocks 128 --workers 8
      neuroseg plan volume.zarr --executor slurm --cluster lab.yaml --gpus 4 --price gpu_hour=2 --price core_hour=0.05
      neuroseg plan volume.zarr --executor slurm --cluster lab.yaml --probe-jobs
    """
    from neuroseg.execution.cluster.site import Cluster, site_named
    from neuroseg.runs.options import options_from
    from neuroseg.runs.planning import plan_a_run
    from neuroseg.storage.arrays import use_threads

    use_threads(1)
    prices = _prices(price or [])
    if gpus is not None and gpus < 1:
        raise InputError(f"--gpus {gpus} is not a number of GPUs", hint="use 1 or more")
    if cluster and executor is None:
        executor = "slurm"
    options = options_from(
        config, volume=volume, output=output, input=input, affinities=affinities, boundaries=boundaries,
        offsets=offsets, tta=tta,
        blocks=blocks, model=model, device=device, blend=blend, level=level, axes=axes, channel=channel, time=time,
        range=range, invert=invert, normalise=normalise, force=force, threshold=threshold, scoring=scoring,
        agglomeration=agglomeration, fragments=fragments, per_section=per_section, mask_boundary=mask_boundary,
        long_range=long_range, min_size=min_size, small=small, keep=keep, voxel_size=voxel_size, roi=roi, mask=mask,
        workers=workers, executor=executor, block_timeout=block_timeout, memory=memory,
    )  # fmt: skip
    where = Cluster(site_named(cluster) if cluster else None, dask_address)
    wait_s = probe_wait if probe_jobs else None
    content = _content(plan_a_run(options, gpus=gpus, cluster=where, jobs_wait_s=wait_s, begin=progress.begin), prices)
    if json:
        print_json(content)
    else:
        print("\n".join(plan_lines(content)))


def _prices(given: Sequence[str]) -> dict[str, float]:
    """Return the price of an hour of each kind. Raises InputError for anything except KIND=PRICE."""
    prices: dict[str, float] = {}
    for text in given:
        kind, _, number = text.partition("=")
        try:
            prices[kind] = float(number)
        except ValueError:
            prices[kind] = -1.0
        if kind not in _PRICES or not 0 <= prices[kind] < float("inf"):
            raise InputError(
                f"--price {text!r} is not a price", hint="use --price gpu_hour=2.50 or --price core_hour=0.05"
            )
    return prices


def _content(planned: Planned, prices: dict[str, float]) -> dict[str, Any]:
    """Return the plan as one object: stages, totals, cost of each stage and of all, advice."""
    estimate = planned.estimate
    content = {"workspace": str(planned.workspace.path), "plan": str(planned.path), **estimate.model_dump(mode="json")}
    content["disk_bytes"] = estimate.disk_by_artifact
    if prices:
        costs = [row.cost(prices.get("gpu_hour", 0.0), prices.get("core_hour", 0.0)) for row in estimate.stages]
        content["stages"] = [{**row, "cost": cost} for row, cost in zip(content["stages"], costs, strict=True)]
        content["cost"] = sum(costs)
    return {**content, "advice": list(planned.advice)}


def plan_lines(content: dict[str, Any]) -> list[str]:
    """Return the plan as a table, totals and advice for people."""
    from neuroseg.storage.space import readable

    lines = _table(content["stages"])
    for name, size in content["disk_bytes"].items():
        lines.append(f"{'disk':>14} {name}: {readable(size)}")
    lines += [
        f"{'time':>14} {duration(content['seconds'])}, with the start of workers",
        f"{'computing':>14} {content['core_hours']:.3f} core-hours, {content['gpu_hours']:.3f} GPU-hours",
        f"{'disk':>14} {readable(content['peak_disk_bytes'])} at most, {content['files']} files",
        f"{'memory':>14} {content['worker_peak_mib']} MiB a worker, {content['head_peak_mib']} MiB the head",
    ]
    if "cost" in content:
        lines.append(f"{'cost':>14} {content['cost']:.2f}")
    lines += [f"{'measured':>14} {each}" for each in _where_measured(content["stages"])]
    lines += [f"{'advice':>14} {each}" for each in content["advice"]]
    return [*lines, f"{'stored':>14} {content['plan']}; the run will be compared with it"]


def _table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the head of the table and a line for each stage. Jobs and costs have columns if there are any."""
    from neuroseg.storage.space import readable

    columns: dict[str, tuple[int, Callable[[dict[str, Any]], str]]] = {
        "stage": (14, lambda row: row["stage"]),
        "blocks": (9, lambda row: str(row["blocks"])),
        "workers": (7, lambda row: str(row["workers"])),
        "time": (9, lambda row: duration(row["seconds"])),
        "core-hours": (10, lambda row: f"{row['core_hours']:.3f}"),
        "GPU-hours": (9, lambda row: f"{row['gpu_hours']:.3f}"),
        "disk": (9, lambda row: readable(sum(row["disk_bytes"].values()))),
        "files": (9, lambda row: str(row["files"])),
        "peak MiB": (8, lambda row: str(row["peak_mib"])),
    }
    if any(row["jobs"] for row in rows):
        columns["jobs"] = 5, lambda row: str(row["jobs"])
    if any("cost" in row for row in rows):
        columns["cost"] = 9, lambda row: f"{row['cost']:.2f}"
    head = " ".join(f"{name:>{width}}" for name, (width, _) in columns.items())
    return [head, *(" ".join(f"{text(row):>{width}}" for width, text in columns.values()) for row in rows)]


def _where_measured(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return a line for each kind of machine that measured: its stages, the kind of job, hosts and GPU."""
    places: dict[str, list[str]] = {}
    for row in rows:
        how = f"in jobs of kind {row['kind']}" if row["kind"] else "on this machine"
        gpu = "" if row["device"] == "cpu" else f" ({row['device']})"
        places.setdefault(f"{how}: {', '.join(row['hosts'])}{gpu}", []).append(row["stage"])
    if len(places) == 1:
        return [f"all stages {place}" for place in places]
    return [f"{', '.join(stages)} {place}" for place, stages in places.items()]

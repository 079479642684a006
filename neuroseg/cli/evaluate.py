"""The command `evaluate`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuroseg.cli import progress
from neuroseg.cli.summary import print_json
from neuroseg.errors import InputError

if TYPE_CHECKING:
    from neuroseg.runs.plan import Plan
    from neuroseg.storage.workspace import Workspace
    from neuroseg.tables import Table
    from neuroseg.volumes.volume import Volume

_WORST_SHOWN = 5


@dataclass(frozen=True)
class Request:
    """What to compare, what counts, and what to write beside the scores."""

    segmentation: str
    truth: str
    roi: str | None = None
    sweep: bool = False
    ignore: Sequence[int] = (0,)
    border_nm: float = 0.0
    plot: Path | None = None
    objects: Path | None = None


def evaluate(
    segmentation: Annotated[str, typer.Argument(help="A workspace, or a label volume (zarr, file.h5:dataset).")],
    truth: Annotated[str, typer.Option(help="Ground truth labels: zarr or file.h5:dataset.")],
    roi: Annotated[str | None, typer.Option(help="z0:z1,y0:y1,x0:x1 in voxels of the segmentation.")] = None,
    sweep: Annotated[bool, typer.Option("--sweep", help="Score every threshold from the merge tree.")] = False,
    plot: Annotated[Path | None, typer.Option(help="PNG of split against merge at every threshold (sweeps).")] = None,
    objects: Annotated[Path | None, typer.Option(help="CSV of the errors of every object, the worst first.")] = None,
    ignore: Annotated[str, typer.Option(help="Truth ids that do not count, separated by commas.")] = "0",
    border_nm: Annotated[float, typer.Option(help="Nor do voxels this near a boundary of the truth (CREMI).")] = 0.0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Score a segmentation: variation of information (bits) and adapted Rand error.

    \b
    Examples: neuroseg evaluate volume.neuroseg --truth truth.h5:labels --roi 120:160,:,: --sweep
              neuroseg evaluate volume.neuroseg --truth truth.h5:labels --plot curve.png --objects errors.csv
    """
    result = evaluated(Request(segmentation, truth, roi, sweep, _ids(ignore), border_nm, plot, objects))
    if json:
        for assumption in result["assumptions"]:
            print(f"assumed: {assumption}", file=sys.stderr)
        print_json({name: value for name, value in result.items() if name != "worst"})
    else:
        _print(result, segmentation)


def evaluated(request: Request) -> dict[str, Any]:
    """Return the scores by name; those of every threshold under `sweep` where they are asked for or plotted.

    Everything that can be wrong with the request is found before the first voxel is read; then a sample of the values
    is looked at: an image scores like labels, without an error.
    """
    from neuroseg.evaluation.boxes import compare, compared_places
    from neuroseg.evaluation.evaluate import border_of, overlap_of, report, require_labels
    from neuroseg.storage.publish import require_publishable
    from neuroseg.volumes.addresses import open_any
    from neuroseg.volumes.first_look import require_label_values

    for path, suffix in ((request.plot, ".png"), (request.objects, ".csv")):
        if path:
            require_publishable(path, suffix)
    workspace, labels, made_by = _opened(request.segmentation)
    require_labels(labels)
    truth = require_labels(open_any(request.truth))
    overlap = overlap_of(labels, truth, request.roi or made_by.get("roi"))
    border = border_of(labels, truth, request.border_nm)
    swept = _swept(request, workspace, made_by) if request.sweep or request.plot else None
    for volume in (truth,) if workspace else (labels, truth):
        require_label_values(volume)
    volumes = [labels] if swept is None else [labels, _fragments(swept[0], labels)]
    shown = progress.voxels_done("evaluate")
    tables = compare(volumes, truth, overlap, request.ignore, border=border, progress=shown)
    result = report(tables[0], overlap, labels)
    result |= {"threshold": made_by.get("threshold"), "scoring": made_by.get("scoring")}
    result |= {"ignore": list(request.ignore), "border_nm": request.border_nm}
    result |= {"assumptions": list(overlap.assumptions)}
    if swept is not None:
        result["sweep"] = _sweep(*swept, tables[1])
    if request.plot:
        _plot(request, result)
    if request.objects:
        shown = progress.voxels_done("objects")
        places = compared_places(labels, truth, overlap, request.ignore, progress=shown)
        result |= _objects(request.objects, tables[0], places, labels)
    return result


def _opened(segmentation: str) -> tuple[Workspace | None, Volume, dict[str, Any]]:
    """Return the workspace if it is one, the labels, and what they themselves say of their making."""
    from neuroseg.runs.finished import require_whole_artifact
    from neuroseg.runs.pipeline import workspace_at
    from neuroseg.storage.workspace import named_workspace
    from neuroseg.volumes.addresses import open_any
    from neuroseg.volumes.volume import open_volume
    from neuroseg.volumes.zarr_nodes import open_node

    workspace = named_workspace(segmentation)
    if workspace is None:
        _require_whole_around(segmentation)
        return None, open_any(segmentation), {}
    if not workspace.segmentation.exists():
        raise InputError(f"{segmentation} has no segmentation yet; run neuroseg segment {segmentation}")
    require_whole_artifact(*workspace_at(segmentation), workspace.segmentation.name)
    # The workspace's plan may be ahead of the segmentation that is stored.
    made_by = open_node(workspace.segmentation).attrs["neuroseg"]
    return workspace, open_volume(str(workspace.segmentation)), made_by


def _require_whole_around(path: str) -> None:
    """Raise DamagedError where a path names an artifact of a workspace on this machine, and files of it are missing."""
    from neuroseg.runs.finished import require_whole_artifact
    from neuroseg.runs.pipeline import workspace_at
    from neuroseg.storage.naming import workspace_around
    from neuroseg.storage.remote import is_remote

    folder = None if is_remote(path) else workspace_around(Path(path))
    if folder is not None:
        artifact = Path(path).absolute().relative_to(folder).parts[0]
        require_whole_artifact(*workspace_at(str(folder)), artifact)


def _swept(request: Request, workspace: Workspace | None, made_by: dict[str, Any]) -> tuple[Workspace, Plan]:
    """Return the workspace whose merge tree answers every threshold, and its plan."""
    from neuroseg.agglomeration.names import MERGE_TREE
    from neuroseg.runs.finished import require_whole_artifact
    from neuroseg.runs.plan import read_plan

    if workspace is None:
        option = "--sweep" if request.sweep else "--plot"
        raise InputError(
            f"{option} needs the merge tree of a workspace; {request.segmentation} is a plain label volume"
        )
    plan = read_plan(workspace)
    if plan.agglomeration != MERGE_TREE:
        raise InputError(
            f"{plan.agglomeration} gives one partition, not a tree with every threshold; evaluate without --sweep, or "
            f"first neuroseg segment {workspace.path} --agglomeration tree --restart agglomeration"
        )
    if not all(path.exists() for path in (workspace.fragments, workspace.tree, workspace.all_nodes)):
        raise InputError(
            f"{workspace.path} lacks fragments or merge tree; neuroseg run with --restart fragments (affinities, where "
            "they were removed too) makes them again"
        )
    require_whole_artifact(workspace, plan, workspace.fragments.name)
    if plan.scoring != made_by["scoring"]:
        raise InputError(f"the merge tree is not that of the segmentation; run neuroseg segment {workspace.path}")
    return workspace, plan


def _fragments(workspace: Workspace, labels: Volume) -> Volume:
    from neuroseg.storage.arrays import open_array
    from neuroseg.volumes.axes import PLAIN

    array = open_array(workspace.fragments)
    return replace(labels, path=str(workspace.fragments), array=array, layout=PLAIN)


def _sweep(workspace: Workspace, plan: Plan, counted: Table) -> list[dict[str, float]]:
    from neuroseg.evaluation.sweep import sweep
    from neuroseg.storage.parts import read_table
    from neuroseg.tables import NODES, TREE

    results = sweep(
        read_table(workspace.tree, TREE),
        read_table(workspace.all_nodes, NODES),
        counted,
        min_size_voxels=plan.min_size_voxels,
        small=plan.small,
    )
    return [{"threshold": threshold, **scores.as_dict()} for threshold, scores in results]


def _plot(request: Request, result: dict[str, Any]) -> None:
    from neuroseg.views.curve import threshold_curve

    assert request.plot is not None
    title = f"{Path(request.segmentation).name}, {result['scoring']}, {result['roi']}"
    threshold_curve(request.plot, result["sweep"], result, title)
    result["plot"] = str(request.plot)


def _objects(path: Path, counted: Table, places: Table, labels: Volume) -> dict[str, Any]:
    from neuroseg.evaluation.objects import object_errors, write_objects

    rows = object_errors(counted, places, labels.shape)
    write_objects(path, rows)
    worst = [dict(zip(rows, row, strict=True)) for row in zip(*(c[:_WORST_SHOWN] for c in rows.values()), strict=True)]
    return {"objects": str(path), "worst": [row for row in worst if row["bits"] > 0]}


def _ids(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise InputError(f"--ignore {text!r} is not a list of ids such as 0,7") from error


def _print(result: dict[str, Any], workspace: str) -> None:
    print(f"   VOI split {result['voi_split']:.3f}  merge {result['voi_merge']:.3f}  sum {result['voi_sum']:.3f} bits")
    print(f"       ARAND {result['arand']:.3f}")
    print(f"    segments {result['segments']} against {result['truth_objects']} true objects")
    shares = (f"{100 * result[name]:.0f} %" for name in ("coverage", "truth_coverage", "counted"))
    covered, of_truth, counted = shares
    compared = f"{result['roi']} ({covered} of the volume, {of_truth} of the truth)"
    print(f"    compared {compared}, {counted} of its voxels count", file=sys.stderr)
    if result["threshold"] is not None:
        print(f"   threshold {result['threshold']:g} ({result['scoring']})")
    if result.get("sweep"):
        _print_sweep(result["sweep"], workspace)
    if result.get("worst"):
        _print_worst(result["worst"])
    for assumption in result["assumptions"]:
        print(f"     assumed {assumption}", file=sys.stderr)
    for name in ("plot", "objects"):
        if name in result:
            print(f"  {name:>10} {result[name]}", file=sys.stderr)


def _print_sweep(rows: list[dict[str, float]], workspace: str) -> None:
    best = min(rows, key=lambda row: row["voi_sum"])
    print("   threshold  split   merge   sum     ARAND")
    for row in rows:
        numbers = "".join(f"{row[name]:8.3f}" for name in ("voi_split", "voi_merge", "voi_sum", "arand"))
        print(f"        {row['threshold']:.2f} {numbers}{'  <- best' if row is best else ''}")
    print(f"  next: neuroseg segment {workspace} --threshold {best['threshold']:g}", file=sys.stderr)


def _print_worst(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        whole, into = ("true object", "segments") if row["error"] == "split" else ("segment", "true objects")
        what = f"{whole} {row['id']} is {row['error']}: {row['parts']} {into}"
        print(f"  {row['bits']:10.3f} bits, {what}, look at {row['z']},{row['y']},{row['x']}")

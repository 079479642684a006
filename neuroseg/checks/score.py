"""Compare a workspace or a label volume with a ground truth: scores, errors per object, scores at every threshold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neuroseg.agglomeration.names import MERGE_TREE
from neuroseg.errors import InputError
from neuroseg.evaluation.boxes import compare, compared_places
from neuroseg.evaluation.evaluate import border_of, overlap_of, report, require_labels
from neuroseg.evaluation.objects import object_errors, write_objects
from neuroseg.evaluation.sweep import sweep
from neuroseg.runs.edits import all_constraints
from neuroseg.runs.finished import require_whole_artifact
from neuroseg.runs.pipeline import workspace_at
from neuroseg.runs.plan import Plan, read_plan
from neuroseg.storage.arrays import open_array
from neuroseg.storage.merges import has_merges, read_nodes, read_tree
from neuroseg.storage.naming import workspace_around
from neuroseg.storage.publish import require_publishable
from neuroseg.storage.remote import is_remote
from neuroseg.storage.workspace import Workspace, named_workspace
from neuroseg.tables import Table
from neuroseg.volumes.addresses import open_any
from neuroseg.volumes.axes import PLAIN
from neuroseg.volumes.input_checks import require_label_values
from neuroseg.volumes.volume import Volume, open_volume
from neuroseg.volumes.zarr_nodes import open_node

_WORST_SHOWN = 5

Progress = Callable[[int, int], None]
"""progress(voxels done, total voxels)"""


@dataclass(frozen=True)
class Request:
    """The two label volumes to compare, the voxels to include, and the files to write."""

    segmentation: str
    truth: str
    roi: str | None = None
    sweep: bool = False
    ignore: Sequence[int] = (0,)
    border_nm: float = 0.0
    plot: Path | None = None
    objects: Path | None = None


def _silent(step: str) -> Progress:
    return lambda done, total: None


def score(request: Request, shown: Callable[[str], Progress] = _silent) -> dict[str, Any]:
    """Return the scores by name. With `sweep` or `plot`, scores at every threshold are under `sweep`.

    Raises InputError for an invalid request before any voxel is read, or after reading a sample of the values if they
    are not labels: an image would give scores without an error.
    """
    for path, suffix in ((request.plot, ".png"), (request.objects, ".csv")):
        if path:
            require_publishable(path, suffix)
    workspace, labels, made_by = opened_labels(request.segmentation)
    require_labels(labels)
    truth = require_labels(open_any(request.truth))
    overlap = overlap_of(labels, truth, request.roi or made_by.get("roi"))
    border = border_of(labels, truth, request.border_nm)
    swept = _swept(request, workspace, made_by) if request.sweep or request.plot else None
    for volume in (truth,) if workspace else (labels, truth):
        require_label_values(volume)
    volumes = [labels] if swept is None else [labels, _fragments(swept[0], labels)]
    tables = compare(volumes, truth, overlap, request.ignore, border=border, progress=shown("evaluate"))
    result = report(tables[0], overlap, labels)
    result |= {"threshold": made_by.get("threshold"), "scoring": made_by.get("scoring")}
    result |= {"ignore": list(request.ignore), "border_nm": request.border_nm}
    result |= {"assumptions": list(overlap.assumptions)}
    if swept is not None:
        result["sweep"] = _sweep(*swept, tables[1])
    if request.plot:
        _plot(request, result)
    if request.objects:
        places = compared_places(labels, truth, overlap, request.ignore, progress=shown("objects"))
        result |= _objects(request.objects, tables[0], places, labels)
    return result


def opened_labels(segmentation: str) -> tuple[Workspace | None, Volume, dict[str, Any]]:
    """Return the workspace or None, the labels, and the settings stored with the labels."""
    workspace = named_workspace(segmentation)
    if workspace is None:
        _require_whole_around(segmentation)
        return None, open_any(segmentation), {}
    if not workspace.segmentation.exists():
        raise InputError(f"{segmentation} has no segmentation yet", hint=f"run neuroseg segment {segmentation}")
    require_whole_artifact(*workspace_at(segmentation), workspace.segmentation.name)
    # The plan of the workspace may be newer than the stored segmentation.
    made_by = open_node(workspace.segmentation).attrs["neuroseg"]
    return workspace, open_volume(str(workspace.segmentation)), made_by


def _require_whole_around(path: str) -> None:
    """Raise DamagedError if a path is an artifact of a local workspace and some of its files are missing."""
    folder = None if is_remote(path) else workspace_around(Path(path))
    if folder is not None:
        artifact = Path(path).absolute().relative_to(folder).parts[0]
        require_whole_artifact(*workspace_at(str(folder)), artifact)


def _swept(request: Request, workspace: Workspace | None, made_by: dict[str, Any]) -> tuple[Workspace, Plan]:
    """Return the workspace with a merge tree, and its plan. Raises InputError if there is none."""
    if workspace is None:
        option = "--sweep" if request.sweep else "--plot"
        raise InputError(
            f"{option} needs the merge tree of a workspace, but {request.segmentation} is a label volume",
            hint="evaluate a workspace (.neuroseg)",
        )
    plan = read_plan(workspace)
    if plan.agglomeration != MERGE_TREE:
        raise InputError(
            f"--agglomeration {plan.agglomeration} computes one segmentation, not a merge tree with all thresholds",
            hint="evaluate without --sweep and --plot, or compute a tree first: "
            f"neuroseg segment {workspace.path} --agglomeration tree --restart agglomeration",
        )
    if not (workspace.fragments.exists() and has_merges(workspace)):
        raise InputError(
            f"{workspace.path} has no fragments or no merge tree",
            hint=f"recompute them: neuroseg segment {workspace.path} --restart fragments, or if the affinities were "
            f"removed: neuroseg run {workspace.path} --restart affinities",
        )
    require_whole_artifact(workspace, plan, workspace.fragments.name)
    if plan.scoring != made_by["scoring"]:
        raise InputError(
            f"the merge tree has scoring {plan.scoring}, but the segmentation has scoring {made_by['scoring']}",
            hint=f"recompute the segmentation: neuroseg segment {workspace.path}",
        )
    return workspace, plan


def _fragments(workspace: Workspace, labels: Volume) -> Volume:
    array = open_array(workspace.fragments)
    return replace(labels, path=str(workspace.fragments), array=array, layout=PLAIN)


def _sweep(workspace: Workspace, plan: Plan, counted: Table) -> list[dict[str, float]]:
    nodes = read_nodes(workspace)
    results = sweep(
        read_tree(workspace),
        nodes,
        counted,
        min_size_voxels=plan.min_size_voxels,
        small=plan.small,
        constraints=all_constraints(workspace, plan, plan.edits, nodes["fragment"]),
    )
    return [{"threshold": threshold, **scores.as_dict()} for threshold, scores in results]


def _plot(request: Request, result: dict[str, Any]) -> None:
    from neuroseg.views.curve import threshold_curve

    assert request.plot is not None
    title = f"{Path(request.segmentation).name}, {result['scoring']}, {result['roi']}"
    threshold_curve(request.plot, result["sweep"], result, title)
    result["plot"] = str(request.plot)


def _objects(path: Path, counted: Table, places: Table, labels: Volume) -> dict[str, Any]:
    rows = object_errors(counted, places, labels.shape)
    write_objects(path, rows)
    worst = [dict(zip(rows, row, strict=True)) for row in zip(*(c[:_WORST_SHOWN] for c in rows.values()), strict=True)]
    return {"objects": str(path), "worst": [row for row in worst if row["bits"] > 0]}

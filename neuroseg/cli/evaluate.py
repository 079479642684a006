"""The command `evaluate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from neuroseg.cli.summary import print_json
from neuroseg.errors import InputError


def evaluate(
    segmentation: Annotated[str, typer.Argument(help="A workspace, or a label volume (zarr, file.h5:dataset).")],
    truth: Annotated[str, typer.Option(help="Ground truth labels: zarr or file.h5:dataset.")],
    roi: Annotated[str | None, typer.Option(help="z0:z1,y0:y1,x0:x1 in voxels of the segmentation.")] = None,
    sweep: Annotated[bool, typer.Option("--sweep", help="Score every threshold from the merge tree.")] = False,
    ignore: Annotated[str, typer.Option(help="Truth ids that do not count, separated by commas.")] = "0",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Score a segmentation: variation of information (bits) and adapted Rand error.

    \b
    Example: neuroseg evaluate volume.neuroseg --truth truth.h5:labels --roi 120:160,:,: --sweep
    """
    result = evaluated(segmentation, truth, roi, sweep=sweep, ignore=_ids(ignore))
    if json:
        print_json(result)
    else:
        _print(result)


def evaluated(segmentation: str, truth: str, roi: str | None, *, sweep: bool, ignore: list[int]) -> dict[str, Any]:
    """Return the scores by name; with `sweep` those of every threshold under the key `sweep`."""
    from neuroseg.agglomeration.methods import MERGE_TREE
    from neuroseg.evaluation.evaluate import compare, overlap_of, report, require_labels
    from neuroseg.plan import read_plan
    from neuroseg.storage.arrays import open_array, open_node
    from neuroseg.storage.files import open_any
    from neuroseg.storage.volumes import Volume, open_volume
    from neuroseg.storage.workspace import Workspace, is_workspace

    workspace = Workspace(Path(segmentation)) if is_workspace(Path(segmentation)) else None
    if workspace and not workspace.segmentation.exists():
        raise InputError(f"{segmentation} has no segmentation yet; run neuroseg segment {segmentation}")
    labels = require_labels(open_volume(str(workspace.segmentation)) if workspace else open_any(segmentation))
    true_labels = require_labels(open_any(truth))
    # What the segmentation itself says of its making: the workspace's plan may be ahead of it.
    made_by = open_node(workspace.segmentation).attrs["neuroseg"] if workspace else {}
    overlap = overlap_of(labels, true_labels, roi or made_by.get("roi"))
    result = report(compare(labels, true_labels, overlap, ignore), overlap, labels)
    result |= {"threshold": made_by.get("threshold"), "scoring": made_by.get("scoring")}
    if sweep:
        if workspace is None:
            raise InputError(f"--sweep needs the merge tree of a workspace; {segmentation} is a plain label volume")
        plan = read_plan(workspace)
        if plan.agglomeration != MERGE_TREE:
            raise InputError(
                f"{plan.agglomeration} gives one partition, not a tree with every threshold; evaluate without --sweep, "
                f"or first neuroseg segment {segmentation} --agglomeration tree --restart agglomeration"
            )
        if plan.scoring != made_by["scoring"]:
            raise InputError(f"the merge tree is not that of the segmentation; run neuroseg segment {segmentation}")
        array = open_array(workspace.fragments)
        fragments = Volume(str(workspace.fragments), array, labels.voxel_size_nm, labels.offset_nm)
        result["sweep"] = _sweep(workspace, plan, compare(fragments, true_labels, overlap, ignore))
    return result


def _sweep(workspace: Any, plan: Any, counted: Any) -> list[dict[str, float]]:
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


def _ids(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise InputError(f"--ignore {text!r} is not a list of ids such as 0,7") from error


def _print(result: dict[str, Any]) -> None:
    print(f"   VOI split {result['voi_split']:.3f}  merge {result['voi_merge']:.3f}  sum {result['voi_sum']:.3f} bits")
    print(f"       ARAND {result['arand']:.3f}")
    print(f"    segments {result['segments']} against {result['truth_objects']} true objects")
    print(f"    compared {result['roi']} ({100 * result['coverage']:.0f} % of the volume)", file=sys.stderr)
    if result["threshold"] is not None:
        print(f"   threshold {result['threshold']:g} ({result['scoring']})")
    if result.get("sweep"):
        _print_sweep(result["sweep"])


def _print_sweep(rows: list[dict[str, float]]) -> None:
    best = min(rows, key=lambda row: row["voi_sum"])
    print("   threshold  split   merge   sum     ARAND")
    for row in rows:
        numbers = "".join(f"{row[name]:8.3f}" for name in ("voi_split", "voi_merge", "voi_sum", "arand"))
        print(f"        {row['threshold']:.2f} {numbers}{'  <- best' if row is best else ''}")
    print(f"  next: neuroseg segment WORKSPACE --threshold {best['threshold']:g}", file=sys.stderr)

"""The command `evaluate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from neuroseg.cli import progress
from neuroseg.cli.summary import print_json
from neuroseg.errors import InputError


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
    from neuroseg.checks.score import Request, score

    request = Request(segmentation, truth, roi, sweep, _ids(ignore), border_nm, plot, objects)
    result = score(request, progress.voxels_done)
    if json:
        for assumption in result["assumptions"]:
            print(f"assumed: {assumption}", file=sys.stderr)
        print_json({name: value for name, value in result.items() if name != "worst"})
    else:
        _print(result, segmentation)


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

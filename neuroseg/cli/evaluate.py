"""The command `evaluate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from neuroseg.cli import progress
from neuroseg.cli.command import INPUT, OUTPUT
from neuroseg.cli.options import Json
from neuroseg.cli.summary import print_json
from neuroseg.errors import InputError


def evaluate(
    segmentation: Annotated[
        str,
        typer.Argument(metavar="SEGMENTATION", help="Workspace, or label volume (zarr or file.h5:dataset)."),
    ],
    truth: Annotated[
        str,
        typer.Option(metavar="LABELS", help="Ground-truth labels: zarr or file.h5:dataset.", rich_help_panel=INPUT),
    ],
    roi: Annotated[
        str | None,
        typer.Option(
            metavar="Z0:Z1,Y0:Y1,X0:X1",
            help="Score only this region, in voxels of the segmentation.  [default: the segmented region]",
            rich_help_panel=INPUT,
        ),
    ] = None,
    sweep: Annotated[
        bool,
        typer.Option(
            "--sweep", help="Score thresholds from 0.02 to 0.98. Requires a workspace.", rich_help_panel=OUTPUT
        ),
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            help="Plot VOI split against VOI merge for all thresholds. Requires a workspace.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    objects: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv", help="Table of the errors of each object, worst first.", rich_help_panel=OUTPUT
        ),
    ] = None,
    ignore: Annotated[
        str,
        typer.Option(metavar="IDS", help="Ground-truth ids to ignore, such as 0,7.", rich_help_panel=INPUT),
    ] = "0",
    border_nm: Annotated[
        float,
        typer.Option(
            metavar="NM",
            help="Ignore voxels within this distance (nm) of a ground-truth boundary, as CREMI does.",
            rich_help_panel=INPUT,
        ),
    ] = 0.0,
    json: Json = False,
) -> None:
    """Score a segmentation against ground truth.

    Use it to choose a threshold (--sweep) and to find errors (--objects). It prints the variation of information (VOI,
    in bits) and the adapted Rand error (ARAND). 0 is perfect for both.

    \b
    Examples:
      neuroseg evaluate volume.neuroseg --truth truth.h5:labels
      neuroseg evaluate volume.neuroseg --truth truth.zarr --roi 120:160,:,: --sweep
      neuroseg evaluate volume.neuroseg --truth truth.zarr --objects errors.csv
    """
    from neuroseg.checks.score import Request, score

    request = Request(segmentation, truth, roi, sweep, parsed_ids(ignore), border_nm, plot, objects)
    result = score(request, progress.voxels_done)
    if json:
        for assumption in result["assumptions"]:
            print(f"assumed: {assumption}", file=sys.stderr)
        print_json({name: value for name, value in result.items() if name != "worst"})
    else:
        _print(result, segmentation)


def parsed_ids(text: str) -> list[int]:
    """Return the ids in a list such as 0,7. Raises InputError for another text."""
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise InputError(
            f"--ignore {text!r} is not a list of ids", hint="separate ids by commas, such as --ignore 0,7"
        ) from error


def _print(result: dict[str, Any], workspace: str) -> None:
    print(f"   VOI split {result['voi_split']:.3f}  merge {result['voi_merge']:.3f}  sum {result['voi_sum']:.3f} bits")
    print(f"       ARAND {result['arand']:.3f}")
    print(f"    segments {result['segments']}, {result['truth_objects']} true objects")
    shares = (f"{100 * result[name]:.0f} %" for name in ("coverage", "truth_coverage", "counted"))
    covered, of_truth, counted = shares
    compared = f"{result['roi']}: {covered} of the segmentation, {of_truth} of the truth"
    print(f"      region {compared}, {counted} of its voxels scored", file=sys.stderr)
    if result["threshold"] is not None:
        print(f"   threshold {result['threshold']:g} ({result['scoring']})")
    if result.get("sweep"):
        _print_sweep(result["sweep"], result["threshold"], workspace)
    if result.get("worst"):
        _print_worst(result["worst"])
    for assumption in result["assumptions"]:
        print(f"     assumed {assumption}", file=sys.stderr)
    for name in ("plot", "objects"):
        if name in result:
            print(f"  {name:>10} {result[name]}", file=sys.stderr)


def _print_sweep(rows: list[dict[str, float]], stored: float, workspace: str) -> None:
    best = min(rows, key=lambda row: row["voi_sum"])
    print("   threshold  split   merge   sum     ARAND")
    for row in rows:
        numbers = "".join(f"{row[name]:8.3f}" for name in ("voi_split", "voi_merge", "voi_sum", "arand"))
        print(f"        {row['threshold']:.2f} {numbers}{'  <- best' if row is best else ''}")
    if best["threshold"] != stored:
        print(f"  next: neuroseg segment {workspace} --threshold {best['threshold']:g}", file=sys.stderr)


def _print_worst(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        is_split = row["error"] == "split"
        parts = f"is split into {row['parts']} segments" if is_split else f"merges {row['parts']} true objects"
        whole = f"{'true object' if is_split else 'segment'} {row['id']}"
        print(f"  {row['bits']:10.3f} bits: {whole} {parts}, at {row['z']},{row['y']},{row['x']} (z,y,x)")

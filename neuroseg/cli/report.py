"""The command `report`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from neuroseg.cli.command import INPUT, OUTPUT
from neuroseg.cli.options import Json
from neuroseg.cli.summary import print_json


def report(
    workspace: Annotated[str, typer.Argument(metavar="WORKSPACE", help="Workspace of the run.")],
    truth: Annotated[
        str | None,
        typer.Option(
            metavar="LABELS",
            help="Ground-truth labels: zarr or file.h5:dataset. Adds scores, every threshold and the worst errors.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE.html",
            help="File to write.  [default: report.html in the workspace]",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Write a page that shows a run and its result.

    Use it to look at a result, or to pass it on: the page is one file, works offline and prints on A4. It shows planes
    of every stage, segments, places to inspect, time and memory of the blocks, and the settings. neuroseg run and
    segment write a shorter one.

    \b
    Examples:
      neuroseg report volume.neuroseg
      neuroseg report volume.neuroseg --truth truth.zarr -o report.html
    """
    from neuroseg.report.write import write_report
    from neuroseg.storage.arrays import use_threads

    use_threads(1)
    path = write_report(workspace, truth=truth, output=output)
    if json:
        print_json({"workspace": workspace, "report": str(path)})
    else:
        print(f"report: {path}", file=sys.stderr)

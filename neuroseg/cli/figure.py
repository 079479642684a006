"""The command `figure`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from neuroseg.cli.command import INPUT, OUTPUT
from neuroseg.geometry import describe


def figure(
    workspace: Annotated[str, typer.Argument(metavar="WORKSPACE", help="Workspace of a run.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE.png", help="The figure.", rich_help_panel=OUTPUT)
    ],
    roi: Annotated[
        str | None,
        typer.Option(
            metavar="Z0:Z1,Y0:Y1,X0:X1",
            help="Region to draw, in voxels.  [default: the middle of the segmented region, up to 512 voxels an edge]",
            rich_help_panel=INPUT,
        ),
    ] = None,
    truth: Annotated[
        str | None,
        typer.Option(
            metavar="LABELS", help="Also draw ground-truth labels: zarr or file.h5:dataset.", rich_help_panel=INPUT
        ),
    ] = None,
    title: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Title.  [default: workspace and region]", rich_help_panel=OUTPUT),
    ] = None,
) -> None:
    """Draw a region of a result in three planes.

    Use it to look at a result or to show it. The rows are the planes xy, xz and yz through the middle of the region.
    The columns are raw, affinities, fragments, segmentation and truth. With --truth, a correct segment has the colour
    of its true object. Removed files are left out and named.

    \b
    Examples:
      neuroseg figure volume.neuroseg -o region.png
      neuroseg figure volume.neuroseg -o region.png --roi 0:48,100:300,100:300 --truth truth.zarr
    """
    from neuroseg.checks.region_figure import draw_region

    drawn = draw_region(workspace, output, roi=roi, truth=truth, title=title)
    print(f"{output}: {', '.join(drawn.columns)} of {describe(drawn.roi)}")
    for sentence in drawn.missing:
        print(f"  left out {sentence}", file=sys.stderr)
    for assumption in drawn.assumptions:
        print(f"  assumed {assumption}", file=sys.stderr)

"""The command `render`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neuroseg.cli.command import INPUT, OUTPUT

if TYPE_CHECKING:
    from neuroseg.checks.rendering import Look
    from neuroseg.geometry import Triple


def render(
    segmentation: Annotated[
        str,
        typer.Argument(metavar="SEGMENTATION", help="Workspace, or label volume (zarr or file.h5:dataset)."),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE.png", help="The picture.", rich_help_panel=OUTPUT)
    ],
    ids: Annotated[
        str,
        typer.Option(
            metavar="IDS", help="Segments to draw: 5,17 or largest:5. One id to compare.", rich_help_panel=INPUT
        ),
    ],
    compare: Annotated[
        str | None,
        typer.Option(
            metavar="OTHER",
            help="Draw the same neuron in another workspace or label volume next to it.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    truth: Annotated[
        str | None,
        typer.Option(
            metavar="LABELS",
            help="Draw the true neuron next to it, and mark split and merge errors.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    level: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Pyramid level to draw, 0 = full resolution.  [default: the level that suits the picture]",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    view: Annotated[
        str,
        typer.Option(
            metavar="VIEW",
            help="front (along z), top (along y), side (along x), or azimuth and elevation in degrees: 30,20.",
            rich_help_panel=OUTPUT,
        ),
    ] = "front",
    size: Annotated[
        int, typer.Option(metavar="PIXELS", help="Longest edge of the picture.", rich_help_panel=OUTPUT)
    ] = 1200,
) -> None:
    """Draw the surfaces of segments, with a scale bar.

    Use it to show neurons, and to see where a neuron is split or merged. With --compare, arrows mark the differences
    of the other segmentation: blue for a split, red for a merge. With --truth, they mark the errors of both.

    \b
    Examples:
      neuroseg render volume.neuroseg --ids largest:5 -o neurons.png
      neuroseg render volume.neuroseg --ids 5,17 -o neurons.png --view 30,20
      neuroseg render volume.neuroseg --ids 5 -o errors.png --compare other.neuroseg --truth truth.zarr
    """
    from neuroseg.checks.rendering import Look

    look = Look(view, size, level)
    if compare is None and truth is None:
        _render(segmentation, output, ids, look)
    else:
        _compare(segmentation, output, ids, look, compare, truth)


def _render(segmentation: str, output: Path, ids: str, look: Look) -> None:
    from neuroseg.checks.rendering import render

    done = render(segmentation, output, ids, look)
    drawn = f"{len(done.segments)} segment{'s' * (len(done.segments) != 1)}"
    print(f"{output}: {drawn} at {_level(done.level, done.factors)}, {done.triangles} triangles")
    if done.absent:
        absent = ", ".join(map(str, done.absent))
        print(f"  left out {absent}: no voxels at level {done.level}; use --level 0", file=sys.stderr)


def _compare(segmentation: str, output: Path, ids: str, look: Look, other: str | None, truth: str | None) -> None:
    from neuroseg.checks.compared_neuron import render_compared

    done = render_compared(segmentation, output, ids, look, other=other, truth=truth)
    of = "true object" if truth else "segment"
    print(f"{output}: {of} {done.neuron} at {_level(done.level, done.factors)}")
    for title, errors in done.errors.items():
        for each in errors:
            place = ",".join(map(str, each.place))
            found = f"segment {each.segment}" + (f" with {of} {each.other}" if each.error == "merge" else "")
            print(f"  {title}: {each.error}, {found}, {each.voxels} voxels, at {place} (z,y,x)")
    for assumption in done.assumptions:
        print(f"  assumed {assumption}", file=sys.stderr)


def _level(level: int, factors: Triple) -> str:
    return f"level {level}" + (f" ({' x '.join(map(str, factors))} voxels each)" if level else "")

"""Options that choose among the axes, channels and times of a file; they win over what the file says."""

from __future__ import annotations

from typing import Annotated

import typer

Axes = Annotated[
    str | None,
    typer.Option(metavar="ZYX", help="Axes of the source, slowest first, a letter each of t, c, z, y, x: zcyx."),
]
Channel = Annotated[int | None, typer.Option(metavar="N", help="Channel to read, from 0.")]
Time = Annotated[int | None, typer.Option(metavar="N", help="Time point to read, from 0.")]

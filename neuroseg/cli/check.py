"""The command `check`: every artifact of a workspace against its done marks (torch is not loaded)."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from neuroseg.cli import progress
from neuroseg.cli.inspect import JsonFlag
from neuroseg.cli.summary import print_json
from neuroseg.errors import NeurosegError

if TYPE_CHECKING:
    from neuroseg.checks.completeness import Checked

_LISTED = 10


def check(
    workspace: Annotated[str, typer.Argument(help="A workspace, V.neuroseg.")],
    json: JsonFlag = False,
) -> None:
    """Check every file of a workspace: find blocks that are missing, cut short or altered on disk.

    Exits with 1 if it finds any. Nothing is changed.

    \b
    Example: neuroseg check volume.neuroseg
    """
    from neuroseg.checks.completeness import checked
    from neuroseg.runs.pipeline import workspace_at

    results = list(checked(*workspace_at(workspace), progress.begin))
    broken = [result for result in results if not result.is_whole]
    if json:
        print_json({"workspace": workspace, "whole": not broken, "stages": [asdict(result) for result in results]})
    else:
        print("\n".join(map(_line, results)))
    if broken:
        files = sum(len(result.files) for result in broken)
        remove = f"Remove the {files} damaged files that are listed, then run" if files else "Run"
        raise NeurosegError(
            f"{workspace} is not whole. {remove} `neuroseg segment {workspace}`: it makes what is missing again"
        )


def _line(result: Checked) -> str:
    """Return what people read of one stage."""
    if result.is_whole:
        removed = f", but {', '.join(result.removed)} removed" if result.removed else ""
        return f"{result.stage:>14} {result.done:>8} blocks whole{removed}"
    numbers = [f"{len(found)} {kind} ({_some(found)})" for kind, found in _kinds(result).items() if found]
    return "\n".join([f"{result.stage:>14} {result.done:>8} blocks: {', '.join(numbers)}", *result.files])


def _kinds(result: Checked) -> dict[str, list[int]]:
    return {"missing": result.missing, "damaged": result.damaged}


def _some(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:_LISTED]))
    return f"{shown}, ..." if len(numbers) > _LISTED else shown

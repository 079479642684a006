"""The command `check`: compare every artifact of a workspace with its done marks. Does not load torch."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from neuroseg.cli import progress
from neuroseg.cli.options import Json
from neuroseg.cli.summary import print_json
from neuroseg.errors import NeurosegError

if TYPE_CHECKING:
    from neuroseg.checks.completeness import Checked

_SHOWN_BLOCKS = 10


def check(
    workspace: Annotated[str, typer.Argument(metavar="WORKSPACE", help="Workspace to check.")],
    json: Json = False,
) -> None:
    """Find missing or damaged files in a workspace.

    Use it after a disk error, or after you copied a workspace. It reads every file and changes nothing. Exit code 1 if
    a block is missing or damaged.

    \b
    Example:
      neuroseg check volume.neuroseg
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
        damaged = sum(len(set(result.missing + result.damaged)) for result in broken)
        remove = f"delete the damaged {'file' if files == 1 else 'files'} listed above, then run" if files else "run"
        raise NeurosegError(
            f"{damaged} {'block is' if damaged == 1 else 'blocks are'} missing or damaged in {workspace}",
            hint=f"{remove} neuroseg segment {workspace} to recompute these blocks",
        )


def _line(result: Checked) -> str:
    """Return the lines of one stage for people."""
    if result.is_whole:
        removed = f" ({', '.join(result.removed)} removed)" if result.removed else ""
        return f"{result.stage:>14} {result.done:>8} done blocks are intact{removed}"
    numbers = [f"{len(found)} {kind} ({_some(found)})" for kind, found in _kinds(result).items() if found]
    return "\n".join([f"{result.stage:>14} {result.done:>8} done blocks: {', '.join(numbers)}", *result.files])


def _kinds(result: Checked) -> dict[str, list[int]]:
    return {"missing": result.missing, "damaged": result.damaged}


def _some(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:_SHOWN_BLOCKS]))
    return f"{shown}, ..." if len(numbers) > _SHOWN_BLOCKS else shown

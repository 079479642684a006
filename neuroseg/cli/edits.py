"""The command `edits`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neuroseg.cli import progress
from neuroseg.cli.command import INPUT, OUTPUT
from neuroseg.cli.options import Json
from neuroseg.cli.summary import print_json, print_summary, run_summary
from neuroseg.errors import InputError, NeurosegError

if TYPE_CHECKING:
    from neuroseg.agglomeration.constraints import Edit
    from neuroseg.storage.workspace import Workspace


def edits(
    workspace: Annotated[str, typer.Argument(metavar="WORKSPACE", help="Workspace of a segmentation.")],
    list_: Annotated[bool, typer.Option("--list", help="List the edits. This is the default.")] = False,
    apply: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Add the edits in FILE, a file like edits.jsonl.", rich_help_panel=INPUT),
    ] = None,
    undo: Annotated[
        list[int] | None,
        typer.Option(metavar="N", help="Undo the edit with this number. Can be repeated.", rich_help_panel=INPUT),
    ] = None,
    store_only: Annotated[
        bool,
        typer.Option(
            "--store-only",
            help="Do not write the segmentation. The next neuroseg segment or run does.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    json: Json = False,
) -> None:
    """List, add or undo edits by hand.

    An edit joins two points of a segmentation, or splits them. It is stored in edits.jsonl in the workspace and holds
    at every threshold. A split cuts where the affinity between the points is least. neuroseg view makes edits with the
    mouse. A file has one edit per line, with voxels z, y, x:

    {"kind": "split", "points_voxels": [[4, 80, 90], [5, 81, 97]]}

    \b
    Examples:
      neuroseg edits volume.neuroseg
      neuroseg edits volume.neuroseg --apply edits.jsonl
      neuroseg edits volume.neuroseg --undo 3
    """
    from neuroseg.runs.edits import change_edits, edits_in, is_written, read_edits
    from neuroseg.runs.pipeline import workspace_at

    if list_ and (apply or undo):
        raise InputError("--list cannot be used with --apply or --undo", hint="remove --list")
    opened, plan = workspace_at(workspace)
    if apply or undo:
        added, undone = change_edits(opened, plan, edits_in(apply) if apply else (), undo or ())
        for word, changed in (("undone", undone), ("added", added)):
            print("".join(f"{word}: {edit}\n" for edit in changed), end="", file=sys.stderr)
        if not store_only and not is_written(opened, plan, read_edits(opened)):
            _write(opened, json=json)
    known = read_edits(opened)
    written = is_written(opened, workspace_at(workspace)[1], known)
    if json:
        print_json({"workspace": workspace, "edits": [asdict(edit) for edit in known.active], "written": written})
        return
    _print(known.active)
    if not written:
        print(f"the segmentation does not have these edits; run neuroseg segment {opened.path}", file=sys.stderr)


def _write(workspace: Workspace, *, json: bool) -> None:
    """Write the segmentation with the edits of now."""
    from neuroseg.runs import pipeline
    from neuroseg.runs.options import options_from
    from neuroseg.storage.arrays import use_threads

    use_threads(1)
    options = options_from(None, volume=str(workspace.path))
    try:
        _, summaries = pipeline.segment(options, begin=progress.begin)
    except NeurosegError:
        print(f"the edits are stored; write them: neuroseg segment {workspace.path}", file=sys.stderr)
        raise
    if not json:
        print_summary(run_summary(workspace, summaries), [])


def _print(edits: Sequence[Edit]) -> None:
    if not edits:
        print("no edits")
        return
    points = [["".join(str(point).split())[1:-1] for point in edit.points_voxels] for edit in edits]
    width = max(len("point z,y,x"), *(len(point) for pair in points for point in pair))
    print(f"{'edit':>5}  {'kind':5}  {'point z,y,x':{width}}  {'and z,y,x':{width}}  {'by':12}  at")
    for edit, (one, other) in zip(edits, points, strict=True):
        print(f"{edit.number:>5}  {edit.kind:5}  {one:{width}}  {other:{width}}  {edit.by:12}  {edit.at}")

"""The command `clean`."""

from __future__ import annotations

from typing import Annotated

import typer

from neuroseg.cli.summary import print_json
from neuroseg.errors import RunRefusedError, unknown_name


def clean(
    workspace: Annotated[str, typer.Argument(help="The workspace of a finished run, V.neuroseg.")],
    keep: Annotated[
        str,
        typer.Option(help="fragments (another threshold stays possible) or segmentation (nothing else is needed)."),
    ] = "fragments",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Remove the intermediate artifacts of a finished run: affinities, tables, and on demand fragments.

    \b
    Examples: neuroseg clean volume.neuroseg --dry-run
    neuroseg clean volume.neuroseg --keep segmentation
    """
    from neuroseg.runs.finished import is_finished
    from neuroseg.runs.pipeline import workspace_at
    from neuroseg.storage.cleaning import KEEP, intermediates, remove
    from neuroseg.storage.trees import bytes_at

    if keep not in KEEP:
        raise unknown_name("thing to keep", keep, KEEP)
    opened, plan = workspace_at(workspace)
    with opened.locked():
        if not is_finished(opened, plan):
            raise RunRefusedError(f"{workspace} has no finished segmentation; an unfinished run needs all it has")
        paths = intermediates(opened, keep)
        size = sum(map(bytes_at, paths))
        if not dry_run:
            remove(paths)
    names = [str(path).removeprefix(f"{opened.artifacts}/") for path in paths]
    if json:
        print_json({"workspace": workspace, "removed": [] if dry_run else names, "bytes": size, "would_remove": names})
        return
    verb = "would remove" if dry_run else "removed"
    print(f"{verb} {', '.join(names) or 'nothing'} ({size / 1e9:.3f} GB)")

"""The command `clean`."""

from __future__ import annotations

from typing import Annotated

import typer

from neuroseg.cli.options import Json
from neuroseg.cli.summary import print_json
from neuroseg.errors import RunRefusedError, unknown_name


def clean(
    workspace: Annotated[str, typer.Argument(metavar="WORKSPACE", help="Workspace of a finished run.")],
    keep: Annotated[
        str,
        typer.Option(
            metavar="WHAT",
            help="Files to keep. fragments: enough to change the threshold. segmentation: only the result.",
        ),
    ] = "fragments",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be deleted. Delete nothing.")] = False,
    json: Json = False,
) -> None:
    """Delete intermediate files of a finished run.

    Use it to free disk space. By default it deletes affinities and edge tables. With --keep segmentation it also
    deletes fragments and the merge tree. Another threshold then requires a new prediction.

    \b
    Examples:
      neuroseg clean volume.neuroseg --dry-run
      neuroseg clean volume.neuroseg --keep segmentation
    """
    from neuroseg.runs.finished import is_finished
    from neuroseg.runs.pipeline import workspace_at
    from neuroseg.runs.temporary import remove_temporary
    from neuroseg.storage.cleaning import KEEP, intermediates, remove, temporary
    from neuroseg.storage.trees import bytes_at

    if keep not in KEEP:
        raise unknown_name("thing to keep", keep, KEEP)
    opened, plan = workspace_at(workspace)
    with opened.locked():
        if not is_finished(opened, plan):
            raise RunRefusedError(
                f"{workspace} has no finished segmentation, and an unfinished run needs all its files",
                hint="run the same neuroseg run or neuroseg segment command again to finish it",
            )
        paths = list(dict.fromkeys([*temporary(opened), *intermediates(opened, keep)]))
        size = sum(map(bytes_at, paths))
        if not dry_run:
            remove_temporary(opened, plan.stages(opened))
            remove(intermediates(opened, keep))
    names = [str(path).removeprefix(f"{opened.artifacts}/") for path in paths]
    if json:
        print_json({"workspace": workspace, "removed": [] if dry_run else names, "bytes": size, "would_remove": names})
        return
    verb = "would delete" if dry_run else "deleted"
    print(f"{verb} {', '.join(names) or 'nothing'} ({size / 1e9:.3f} GB)")

"""The command `suspects`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neuroseg.cli import progress
from neuroseg.cli.command import INPUT, OUTPUT
from neuroseg.cli.evaluate import parsed_ids
from neuroseg.cli.options import Json
from neuroseg.cli.summary import print_json
from neuroseg.errors import InputError

if TYPE_CHECKING:
    from neuroseg.evaluation.suspect import Suspect

_IGNORED = "0"


def suspects(
    workspace: Annotated[str, typer.Argument(metavar="WORKSPACE", help="Workspace. With --truth also a label volume.")],
    truth: Annotated[
        str | None,
        typer.Option(
            metavar="LABELS",
            help="Ground-truth labels: zarr or file.h5:dataset. List errors instead of suspects.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    roi: Annotated[
        str | None,
        typer.Option(
            metavar="Z0:Z1,Y0:Y1,X0:X1",
            help="Compare only this region with --truth, in voxels.  [default: the segmented region]",
            rich_help_panel=INPUT,
        ),
    ] = None,
    ignore: Annotated[
        str,
        typer.Option(metavar="IDS", help="Ids of --truth to ignore, such as 0,7.", rich_help_panel=INPUT),
    ] = _IGNORED,
    border_nm: Annotated[
        float,
        typer.Option(
            metavar="NM",
            help="Ignore voxels within this distance (nm) of a boundary of --truth.",
            rich_help_panel=INPUT,
        ),
    ] = 0.0,
    top: Annotated[int, typer.Option(metavar="N", help="Number of places to list.", rich_help_panel=OUTPUT)] = 50,
    csv: Annotated[
        Path | None,
        typer.Option(metavar="FILE.csv", help="Also write the places as a table.", rich_help_panel=OUTPUT),
    ] = None,
    neuroglancer: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="Also write the places as an annotation layer for neuroglancer.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """List the places of a segmentation to inspect.

    Use it to proofread. With --truth, it lists split and merge errors, the worst first. Without, it lists decisions of
    the merge tree that may be wrong, the most suspicious first. Positions are in voxels and nm.

    \b
    Examples:
      neuroseg suspects volume.neuroseg
      neuroseg suspects volume.neuroseg --truth truth.zarr --csv errors.csv
      neuroseg suspects volume.neuroseg --top 200 --neuroglancer suspects.json
    """
    from neuroseg.checks.suspects import errors_of, suspects_of, write_layer
    from neuroseg.evaluation.suspect_files import write_csv
    from neuroseg.storage.publish import require_publishable

    for path, suffix in ((csv, ".csv"), (neuroglancer, ".json")):
        if path:
            require_publishable(path, suffix)
    if truth is None:
        _require_no_options_of_truth(roi, ignore, border_nm)
        found = suspects_of(workspace, top=top)
    else:
        ignored = parsed_ids(ignore)
        found = errors_of(
            workspace, truth, roi=roi, ignore=ignored, border_nm=border_nm, top=top, shown=progress.voxels_done
        )
    if csv:
        write_csv(csv, found)
    if neuroglancer:
        write_layer(neuroglancer, found, workspace, "suspects" if truth is None else "errors")
    if json:
        print_json({"workspace": workspace, "truth": truth, "suspects": [each.as_dict() for each in found]})
    else:
        _print(found, has_truth=truth is not None)


def _require_no_options_of_truth(roi: str | None, ignore: str, border_nm: float) -> None:
    given = {"--roi": roi is not None, "--ignore": ignore != _IGNORED, "--border-nm": border_nm != 0}
    for name, is_given in given.items():
        if is_given:
            raise InputError(f"{name} needs --truth", hint=f"add --truth LABELS, or omit {name}")


def _print(found: Sequence[Suspect], *, has_truth: bool) -> None:
    if not found:
        print("no errors found" if has_truth else "no suspects found")
        return
    places = [",".join(map(str, suspect.place_voxels)) for suspect in found]
    kinds = max(len(suspect.kind) for suspect in found)
    width = max(len("z,y,x"), *map(len, places))
    print(f"{'bits':>8}  {'kind':{kinds}}  {'z,y,x':{width}}  description")
    for suspect, place in zip(found, places, strict=True):
        print(f"{suspect.bits:8.4f}  {suspect.kind:{kinds}}  {place:{width}}  {suspect.description}")

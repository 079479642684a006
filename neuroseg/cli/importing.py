"""The command `import`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from neuroseg.cli import progress
from neuroseg.cli.command import INPUT, OUTPUT
from neuroseg.cli.options import Axes, Channel, Invert, Json, Range, Time, VoxelSize
from neuroseg.cli.summary import print_json

_SHOWN_FILES = 3


def import_(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE", help="Folder or list of TIFF or PNG sections, file.h5:dataset, or zarr."),
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="VOLUME", help="OME-NGFF zarr volume to write.", rich_help_panel=OUTPUT),
    ],
    voxel_size: VoxelSize = None,
    range: Range = None,
    invert: Invert = False,
    level: Annotated[
        int,
        typer.Option(metavar="N", help="Pyramid level of an OME-NGFF source.", rich_help_panel=INPUT),
    ] = 0,
    axes: Axes = None,
    channel: Channel = None,
    time: Time = None,
    series: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Image to read from a TIFF with several, counted from 0.", rich_help_panel=INPUT
        ),
    ] = None,
    order: Annotated[
        str | None,
        typer.Option(
            metavar="N|name|given",
            help="Order of section files. N: by the N-th number in their names, counted from 1. name: by name. "
            "given: as listed.  [default: by the numbers in their names]",
            rich_help_panel=INPUT,
        ),
    ] = None,
    labels: Annotated[
        bool,
        typer.Option("--labels", help="Import labels and keep their values.", rich_help_panel=INPUT),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Import even if the values look wrong.")] = False,
    json: Json = False,
) -> None:
    """Convert section images, HDF5 or zarr to an OME-NGFF volume.

    Use it if your data are TIFF or PNG sections, or to copy a volume to a faster format. Raw values become uint8. For
    labels, add --labels. The volume can be larger than memory.

    \b
    Examples:
      neuroseg import sections/ -o volume.zarr --voxel-size 10 10 10
      neuroseg import data.h5:raw -o volume.zarr
      neuroseg import labels.h5:ids -o truth.zarr --labels
    """
    from neuroseg.storage.arrays import use_threads
    from neuroseg.volumes.importing import import_volume
    from neuroseg.volumes.selection import Selection

    use_threads(2)
    made = import_volume(
        sources,
        output,
        voxel_size_nm=voxel_size,
        value_range=range,
        invert=invert,
        level=level,
        selection=Selection(axes, channel, time, series),
        order=order,
        labels=labels,
        force=force,
        progress=progress.voxels_done("import"),
    )
    if json:
        print_json(
            {
                "path": str(made.path),
                "shape": list(made.shape),
                "dtype": str(made.dtype),
                "voxel_size_nm": list(made.voxel_size_nm),
                "offset_nm": list(made.offset_nm),
            }
        )
        return
    size = " x ".join(f"{edge:g}" for edge in made.voxel_size_nm)
    print(f"{made.path}: {' x '.join(map(str, made.shape))} voxels of {size} nm, {made.dtype}", file=sys.stderr)
    if len(made.files) > 1:
        first, last = made.files[:_SHOWN_FILES], made.files[-1]
        print(f"  sections: {', '.join(first)}, ... {last} ({len(made.files)} files in this order)", file=sys.stderr)
    is_label = made.dtype.itemsize > 1
    step = f"neuroseg evaluate SEGMENTATION --truth {made.path}" if is_label else f"neuroseg run {made.path}"
    print(f"  next: {step}", file=sys.stderr)

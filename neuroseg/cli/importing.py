"""The command `import`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from neuroseg.cli import progress
from neuroseg.cli.selecting import Axes, Channel, Time
from neuroseg.cli.summary import print_json

_SHOWN_FILES = 3


def import_(
    sources: Annotated[list[str], typer.Argument(help="Folder or list of TIFF/PNG sections, file.h5:dataset, zarr.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The OME-NGFF zarr volume to make.")],
    voxel_size: Annotated[
        tuple[float, float, float] | None,
        typer.Option(metavar="Z Y X", help="Voxel size in nm; wins over the source's."),
    ] = None,
    range: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="LOW HIGH", help="Values that map to 0 and 255; LOW above HIGH inverts. Required for float."
        ),
    ] = None,
    invert: Annotated[
        bool, typer.Option("--invert", help="Invert contrast: use this if membranes are bright.")
    ] = False,
    level: Annotated[int, typer.Option(help="Pyramid level of an OME-NGFF source.")] = 0,
    axes: Axes = None,
    channel: Channel = None,
    time: Time = None,
    series: Annotated[int | None, typer.Option(metavar="N", help="Image of a TIFF that holds several, from 0.")] = None,
    order: Annotated[
        str | None,
        typer.Option(
            metavar="N|name|given",
            help="Order of section files: by the N-th number of their names (from 1), by the whole name, or as listed.",
        ),
    ] = None,
    labels: Annotated[bool, typer.Option("--labels", help="Labels, not raw: keep the values.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Import despite unusual values.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Import section stacks, HDF5 or zarr into a zarr volume, streaming.

    \b
    Examples: neuroseg import sections/ -o volume.zarr --voxel-size 10 10 10
    neuroseg import data.h5:raw -o volume.zarr
    neuroseg import hyperstack.tif --channel 0 -o volume.zarr
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
    step = f"score a segmentation with neuroseg evaluate and --truth {made.path}"
    print(f"  next: {step if is_label else f'neuroseg run {made.path} --blocks 256'}", file=sys.stderr)

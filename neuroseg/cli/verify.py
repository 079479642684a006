"""The command `verify`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuroseg.cli import options as option
from neuroseg.cli import progress
from neuroseg.cli.command import INPUT, OUTPUT, WORKERS
from neuroseg.cli.summary import print_json
from neuroseg.errors import InputError, NeurosegError

if TYPE_CHECKING:
    from neuroseg.checks.verify import Compared
    from neuroseg.evaluation.artifacts import Difference


def verify(
    volume: Annotated[str | None, typer.Argument(metavar="VOLUME", help="Raw volume, as for neuroseg run.")] = None,
    crop: Annotated[
        str, typer.Option(metavar="N|Z,Y,X", help="Size of the crop in voxels.", rich_help_panel=INPUT)
    ] = "256",
    at: Annotated[
        str | None,
        typer.Option(
            metavar="Z,Y,X",
            help="First voxel of the crop.  [default: in the middle of the volume]",
            rich_help_panel=INPUT,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FOLDER",
            help="Folder to keep the runs in.  [default: a temporary folder, deleted at the end]",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    affinities: option.Affinities = None,
    boundaries: option.Boundaries = None,
    offsets: option.Offsets = None,
    blocks: Annotated[
        str | None,
        typer.Option(
            metavar="N|Z,Y,X",
            help="Block size in voxels of the interrupted run.  [default: half of the crop]",
            rich_help_panel=WORKERS,
        ),
    ] = None,
    model: option.Model = None,
    device: option.Device = None,
    blend: option.Blend = None,
    tta: option.Tta = None,
    level: option.Level = None,
    range: option.Range = None,
    invert: option.Invert = False,
    normalise: option.Normalise = None,
    force: option.Force = False,
    threshold: option.Threshold = None,
    scoring: option.Scoring = None,
    per_section: option.PerSection = None,
    long_range: option.LongRange = None,
    mask: option.Mask = None,
    mask_boundary: option.MaskBoundary = None,
    min_size: option.MinSize = None,
    voxel_size: option.VoxelSize = None,
    workers: option.Workers = None,
    config: option.Config = None,
    json: option.Json = False,
) -> None:
    """Test that block size and restarts do not change the result.

    Use it on your own volume before a long run. It segments a crop as one block, in blocks with workers that are killed
    and resumed, and in blocks of odd sizes. Then it compares all artifacts. Exit code 1 if one differs.

    \b
    Examples:
      neuroseg verify volume.zarr
      neuroseg verify volume.zarr --crop 64,512,512 --at 0,1000,1000 --blocks 32,256,256
    """
    from neuroseg.checks.verify import verify
    from neuroseg.geometry import describe, parse_triple
    from neuroseg.runs.options import options_from
    from neuroseg.storage.arrays import use_threads

    use_threads(1)
    options = options_from(
        config, volume=volume, affinities=affinities, boundaries=boundaries, offsets=offsets, blocks=blocks,
        model=model, device=device, blend=blend, tta=tta, level=level, range=range, invert=invert, normalise=normalise,
        force=force, threshold=threshold, scoring=scoring, per_section=per_section, long_range=long_range, mask=mask,
        mask_boundary=mask_boundary, min_size=min_size, voxel_size=voxel_size, workers=workers,
    )  # fmt: skip
    size = parse_triple(crop, "--crop")
    begin = None if at is None else parse_triple(at, "--at", least=0)
    with _folder(output) as folder:
        roi, cuts = verify(options, folder, size, begin, show=progress.begin)
        results = list(cuts)
        same = all(result.cause is None for result in results)
        if json:
            print_json({"crop": describe(roi), "identical": same, "cuts": [_row(result) for result in results]})
        else:
            print("\n".join([f"crop {describe(roi)}, compared with one block", *map(_lines, results)]))
        if not same:
            raise NeurosegError(
                "the result depends on blocks or restarts",
                hint=f"compare the runs in {output}" if output else "add -o FOLDER to keep the runs, then compare them",
            )


@contextmanager
def _folder(output: Path | None) -> Iterator[Path]:
    """Yield the folder for the runs: `output`, which is kept, or a temporary one."""
    if output is None:
        with tempfile.TemporaryDirectory(prefix="neuroseg-verify-") as temporary:
            yield Path(temporary)
        return
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output} exists and is not an empty folder", hint="choose another folder with -o")
    output.mkdir(parents=True, exist_ok=True)
    yield output


def _row(result: Compared) -> dict[str, Any]:
    differences = {name: None if found is None else asdict(found) for name, found in result.differences.items()}
    return {"cut": str(result.cut), "artifacts": differences, "likely_cause": result.cause}


def _lines(result: Compared) -> str:
    """Return the lines of one cut for people."""
    different = [found for found in result.differences.values() if found is not None]
    if not different:
        return f"  {result.cut}: {len(result.differences)} artifacts identical"
    lines = [f"  {result.cut}: NOT identical", *map(_difference, different), f"    likely cause: {result.cause}"]
    return "\n".join(lines)


def _difference(found: Difference) -> str:
    count = f"    {found.artifact}: {found.count} of {found.total} differ"
    if not found.begin:
        return f"{count}, first {found.first}"
    bounds = ",".join(f"{begin}:{end}" for begin, end in zip(found.begin, found.end, strict=True))
    return f"{count}, first at {found.first} of the crop, all within {bounds}"

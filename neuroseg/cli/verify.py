"""The command `verify`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuroseg.cli import progress, run
from neuroseg.cli.summary import print_json
from neuroseg.errors import InputError, NeurosegError

if TYPE_CHECKING:
    from neuroseg.checks.verify import Compared
    from neuroseg.evaluation.artifacts import Difference


def verify(
    volume: Annotated[str | None, typer.Argument(help="Raw volume, as for `neuroseg run`.")] = None,
    crop: Annotated[str, typer.Option(help="Size of the crop in voxels, N or Z,Y,X.")] = "256",
    at: Annotated[str | None, typer.Option(help="First voxel of the crop, Z,Y,X (default: the middle).")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for the runs; kept (default: a temporary one).")
    ] = None,
    affinities: Annotated[str | None, typer.Option(help="Affinities (c,z,y,x) instead of a raw volume.")] = None,
    boundaries: Annotated[str | None, typer.Option(help="A boundary map (z,y,x) instead of a raw volume.")] = None,
    offsets: Annotated[str | None, typer.Option(help="What channels link: '-1,0,0;0,-1,0;0,0,-1'.")] = None,
    blocks: run.Blocks = None,
    model: run.Model = None,
    device: run.Device = None,
    blend: run.Blend = None,
    level: run.Level = None,
    range: run.Range = None,
    invert: run.Invert = False,
    normalise: run.Normalise = None,
    force: run.Force = False,
    threshold: run.Threshold = None,
    scoring: run.ScoringText = None,
    per_section: run.PerSection = None,
    long_range: run.LongRange = None,
    mask: run.Mask = None,
    mask_boundary: run.MaskBoundary = None,
    min_size: run.MinSize = None,
    voxel_size: run.VoxelSize = None,
    workers: run.Workers = None,
    config: run.Config = None,
    json: run.Json = False,
) -> None:
    """Prove on your own volume that the result does not depend on how the work is cut up.

    A crop is segmented as one block, then in blocks by workers that are killed and resumed on the way, then in
    odd blocks; every artifact is compared. Exit code 1 and where they differ, if they do.

    \b
    Examples: neuroseg verify volume.zarr --crop 256
    neuroseg verify volume.zarr --crop 64,512,512 --at 0,1000,1000 --blocks 32,256,256
    """
    from neuroseg.checks.verify import verify
    from neuroseg.geometry import describe, parse_triple
    from neuroseg.runs.options import options_from
    from neuroseg.storage.arrays import use_threads

    use_threads(1)
    options = options_from(
        config, volume=volume, affinities=affinities, boundaries=boundaries, offsets=offsets, blocks=blocks,
        model=model, device=device, blend=blend, level=level, range=range, invert=invert, normalise=normalise,
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
            print("\n".join([f"crop {describe(roi)}, compared with the crop as one block", *map(_told, results)]))
        if not same:
            raise NeurosegError("the result depends on how the work was cut up; -o FOLDER keeps the runs")


@contextmanager
def _folder(output: Path | None) -> Iterator[Path]:
    """Yield the folder for the runs: the user's, which stays, or a temporary one."""
    if output is None:
        with tempfile.TemporaryDirectory(prefix="neuroseg-verify-") as temporary:
            yield Path(temporary)
        return
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output} exists and is not an empty folder; choose another with -o")
    output.mkdir(parents=True, exist_ok=True)
    yield output


def _row(result: Compared) -> dict[str, Any]:
    differences = {name: None if found is None else asdict(found) for name, found in result.differences.items()}
    return {"cut": str(result.cut), "artifacts": differences, "likely_cause": result.cause}


def _told(result: Compared) -> str:
    """Return what people read of one cut."""
    different = [found for found in result.differences.values() if found is not None]
    if not different:
        return f"  {result.cut}: {len(result.differences)} artifacts identical"
    lines = [f"  {result.cut}: NOT identical", *map(_where, different), f"    likely cause: {result.cause}"]
    return "\n".join(lines)


def _where(found: Difference) -> str:
    count = f"    {found.artifact}: {found.count} of {found.total} differ"
    if not found.begin:
        return f"{count}, first {found.first}"
    bounds = ",".join(f"{begin}:{end}" for begin, end in zip(found.begin, found.end, strict=True))
    return f"{count}, first at {found.first} of the crop, all in {bounds}"

"""The command `models tune`: measure tiles and batches of a model on a device, and write a bundle with the fastest."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuroseg.cli.options import Json
from neuroseg.cli.summary import print_json
from neuroseg.errors import InputError

if TYPE_CHECKING:
    from neuroseg.networks.bundle import Bundle
    from neuroseg.networks.card import TileCard
    from neuroseg.runs.tile_tuning import Trial

_SECONDS = 120.0


def tune(
    model: Annotated[str, typer.Argument(metavar="NAME|FOLDER", help="Name of a bundled model, or a bundle folder.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="BUNDLE", help="Folder to write the bundle to.")],
    device: Annotated[
        str, typer.Option(metavar="DEVICE", help="Device to measure on: auto, cpu, cuda or cuda:N.")
    ] = "auto",
    seconds: Annotated[
        float, typer.Option(metavar="N", min=1.0, help="Time for all measurements together, in seconds.")
    ] = _SECONDS,
    json: Json = False,
) -> None:
    """Measure tiles of a model on a device, and write a bundle with the fastest.

    Use it before long predictions on a new kind of device. It predicts random raw with several tiles and batches, and
    skips those that need too much memory or time. The bundle is a copy of the model with the fastest of them, as the
    tile of CPUs or of GPUs. Context and weights stay the same.

    Another tile can change affinities slightly, so it is another model: repeat earlier predictions with --restart
    affinities, or finish them with the old model.

    \b
    Examples:
      neuroseg models tune fib25_light -o models/fib25_tuned
      neuroseg models tune fib25_light -o models/fib25_h200 --device cuda:0 --seconds 60
    """
    import numpy as np

    from neuroseg.affinities.device import choose_device
    from neuroseg.networks.bundle import open_bundle, save_copy
    from neuroseg.runs.tile_tuning import candidates, fastest
    from neuroseg.runs.tile_tuning import tune as measured

    bundle, chosen = open_bundle(model), choose_device(device)
    _require_new(output, bundle)
    used = bundle.on(chosen.type).card.tile
    tiles = candidates(bundle.windows, used)
    rng = np.random.default_rng(0)
    _show_heading(len(tiles), str(chosen))
    trials = measured(bundle, chosen, tiles, seconds=seconds, rng=rng, observe=_show)
    best = fastest(trials)
    key = "tile" if chosen.type == "cpu" else "gpu_tile"
    save_copy(output, bundle.card.model_copy(update={key: best.tile}), bundle)
    content = {
        "made": str(output),
        "device": str(chosen),
        "key": key,
        "best": _row(best),
        "unchanged": best.tile == used,
        "measured": [_row(trial) for trial in trials],
    }
    if json:
        print_json(content)
    else:
        _show_result(content)


def _require_new(output: Path, bundle: Bundle) -> None:
    """Raise InputError if the output exists: runs may use a bundle there."""
    if output.exists() and output.resolve() == bundle.path.resolve():
        raise InputError(
            f"-o {output} is the model itself, which other runs may use",
            hint="choose a new folder with -o; the tuned bundle has another identity",
        )
    if output.exists():
        raise InputError(f"{output} already exists", hint="choose another folder with -o")


def _row(trial: Trial) -> dict[str, Any]:
    return {
        **trial.tile.model_dump(mode="json"),
        "computed_per_kept": round(trial.tile.computed_per_kept, 3),
        "mvoxel_per_s": None if trial.mvoxel_per_s is None else float(f"{trial.mvoxel_per_s:.4g}"),
        "skipped": trial.reason or None,
    }


def _size(tile: TileCard) -> str:
    return " x ".join(map(str, tile.output_voxels))


def _show_heading(count: int, device: str) -> None:
    print(f"{count} tiles on {device}, the smallest first; Mvoxel/s of voxels that are kept", file=sys.stderr)
    print(f"{'tile':>18} {'batch':>5} {'computed per kept':>17} {'Mvoxel/s':>9}", file=sys.stderr, flush=True)


def _show(trial: Trial) -> None:
    """Print one row of the table as soon as it is known."""
    speed = trial.reason if trial.mvoxel_per_s is None else f"{trial.mvoxel_per_s:9.4g}"
    tile = trial.tile
    print(f"{_size(tile):>18} {tile.batch:5d} {tile.computed_per_kept:17.1f} {speed}", file=sys.stderr, flush=True)


def _show_result(content: dict[str, Any]) -> None:
    best = content["best"]
    size = " x ".join(map(str, best["output_voxels"]))
    print(f"{content['made']}: {content['key']} {size}, batch {best['batch']}", file=sys.stderr)
    if content["unchanged"]:
        print("note: this is the tile that the model already had, so its identity is the same", file=sys.stderr)
    else:
        print("note: another tile is another identity: restart earlier predictions", file=sys.stderr)
    print(f"  next: neuroseg run VOLUME --model {content['made']} [--restart affinities]", file=sys.stderr)

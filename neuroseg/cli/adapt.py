"""The command `adapt`."""

from __future__ import annotations

import json as json_
import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from neuroseg.cli import run
from neuroseg.cli.command import typed_command
from neuroseg.cli.summary import print_json
from neuroseg.errors import NeurosegError, unknown_name

if TYPE_CHECKING:
    from neuroseg.training.adapt import Adapted


def adapt(
    context: typer.Context,
    volume: Annotated[str, typer.Argument(help="The raw volume to fit, uint8.")],
    model: Annotated[str, typer.Option(help="A bundled model's name, or a bundle.")] = "fib25_light",
    labels: Annotated[str | None, typer.Option(help="Labels of some sections; a quarter of them judges.")] = None,
    region: Annotated[
        str | None, typer.Option(metavar="z0:z1,y0:y1,x0:x1", help="Where the labels are (default: all of them).")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder (default runs/VOLUME-MODEL).")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of training.")] = 300,
    level: run.Level = None,
    precision: Annotated[
        str, typer.Option(help="In which it trains: bfloat16, or float32 for GPUs that emulate bfloat16.")
    ] = "bfloat16",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    restart: Annotated[bool, typer.Option("--restart", help="Begin again instead of resuming.")] = False,
    json: run.Json = False,
) -> None:
    """Tune a model to a volume without labels, or with a few; kept only if it became better.

    What judges is put aside before: a quarter of the labelled sections (VOI, the best threshold of each), or crops of a
    quarter of the volume (VOI between segmentations of perturbed copies of the same crop, at the model's threshold, as
    a share of their joint entropy; the gain must be more than twice its standard error). Exit code 1 when it is not
    better; then no bundle is written.

    \b
    Example: neuroseg adapt volume.zarr --model fib25_light -o runs/mine
    then: neuroseg run volume.zarr --model runs/mine/bundle
    """
    from neuroseg.networks.bundle import open_bundle
    from neuroseg.runs.levels import nearest_level
    from neuroseg.storage.naming import default_workspace
    from neuroseg.storage.publish import publish_text, require_folder
    from neuroseg.training.adapt import Request
    from neuroseg.training.adapt import adapt as adapt_
    from neuroseg.training.settings import Precision

    if precision not in get_args(Precision):
        raise unknown_name("precision", precision, get_args(Precision))
    logging.getLogger("neuroseg").setLevel(logging.INFO)
    card = open_bundle(model).card
    folder = output or Path("runs") / f"{default_workspace(volume).stem}-{card.name}"
    require_folder(folder)
    chosen = nearest_level(volume, card.voxel_size_nm) if level is None else level
    request = Request(
        volume, model, labels=labels, region=region, level=chosen, steps=steps, precision=cast("Precision", precision)
    )
    made = adapt_(request, folder, device=device, restart=restart, command=typed_command(context))
    content = {**asdict(made), "bundle": str(made.bundle) if made.bundle else None, "request": asdict(request)}
    publish_text(folder / "results.json", json_.dumps(content, indent=2) + "\n")
    if json:
        print_json(content)
    told = f"by the {made.measure}: {_told(made)}"
    if made.bundle is None:
        raise NeurosegError(f"not better {told}; nothing was kept, use {model} as it is")
    print(
        f"better {told}: {made.bundle}\n  next: neuroseg run {volume} --model {made.bundle}",
        file=sys.stderr,
    )


def _told(made: Adapted) -> str:
    """Return how the model and the tuned one did; of crops also how many agree better, and their entropy."""
    before, after = made.before, made.after
    bits = f"{before['voi']:.3f} bits before, {after['voi']:.3f} after"
    if "disagreement" not in after:
        return bits
    shares = (
        f"they lie apart in {before['disagreement']:.1%} of what they say before, {after['disagreement']:.1%} after"
    )
    crops = f"{after['better_crops']} of {len(after['voi_of_crops'])} crops agree better"
    entropies = f"entropy of the segments {before['entropy']:.2f}, then {after['entropy']:.2f}"
    return f"{shares} ({before['voi']:.3f} bits, then {after['voi']:.3f}; {crops}; {entropies})"

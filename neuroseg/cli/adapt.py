"""The command `adapt`."""

from __future__ import annotations

import json as json_
import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from neuroseg.cli import options as option
from neuroseg.cli.command import INPUT, OUTPUT, TRAINING, typed_command
from neuroseg.cli.summary import print_json
from neuroseg.cli.train import Device, Restart
from neuroseg.errors import NeurosegError, unknown_name

if TYPE_CHECKING:
    from neuroseg.training.adapt import Adapted


def adapt(
    context: typer.Context,
    volume: Annotated[str, typer.Argument(metavar="VOLUME", help="Raw volume to adapt to, uint8.")],
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME|FOLDER", help="Bundled model or bundle folder to start from.", rich_help_panel=INPUT
        ),
    ] = "fib25_light",
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="LABELS",
            help="Labels of some sections. A quarter of the sections is used only to compare the models.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(
            metavar="Z0:Z1,Y0:Y1,X0:X1",
            help="With --labels: labelled region, in voxels.  [default: all labels]",
            rich_help_panel=INPUT,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FOLDER",
            help="Folder to write to.  [default: runs/VOLUME-MODEL]",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    steps: Annotated[
        int, typer.Option(min=1, metavar="N", help="Number of training steps.", rich_help_panel=TRAINING)
    ] = 300,
    level: option.Level = None,
    precision: Annotated[
        str,
        typer.Option(
            metavar="TYPE",
            help="Training precision. bfloat16, or float32 for GPUs that emulate bfloat16.",
            rich_help_panel=TRAINING,
        ),
    ] = "bfloat16",
    device: Device = "auto",
    restart: Restart = False,
    json: option.Json = False,
) -> None:
    """Fine-tune a model to your volume.

    Use it if a model segments your volume poorly and you have no labels, or only a few (--labels). A quarter of the
    data is held out to compare the models. With labels, it compares their VOI. Without labels, it compares how well
    segmentations of perturbed copies agree; the gain must exceed twice its standard error. If the new model is not
    better, no bundle is written and the exit code is 1. To resume, run the same command again.

    \b
    Examples:
      neuroseg adapt volume.zarr -o runs/mine
      neuroseg adapt volume.zarr --labels labels.h5:ids --region 0:20,:,: -o runs/mine
      neuroseg run volume.zarr --model runs/mine/bundle
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
    comparison = f"by the {made.measure}: {_comparison(made)}"
    if made.bundle is None:
        raise NeurosegError(
            f"the new model is not better {comparison}; no bundle was written",
            hint=f"use {model} as it is: neuroseg run {volume} --model {model}",
        )
    print(
        f"the new model is better {comparison}\n{made.bundle}\n  next: neuroseg run {volume} --model {made.bundle}",
        file=sys.stderr,
    )


def _comparison(made: Adapted) -> str:
    """Return the scores before and after; without labels also the number of improved crops and their entropy."""
    before, after = made.before, made.after
    bits = f"{before['voi']:.3f} bits before, {after['voi']:.3f} after"
    if "disagreement" not in after:
        return bits
    shares = f"segmentations differ by {before['disagreement']:.1%} before, {after['disagreement']:.1%} after"
    crops = f"{after['better_crops']} of {len(after['voi_of_crops'])} crops improved"
    entropies = f"entropy of the segments {before['entropy']:.2f} before, {after['entropy']:.2f} after"
    return f"{shares} ({bits}; {crops}; {entropies})"

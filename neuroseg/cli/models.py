"""The commands `models`, `models show` and `models convert`: models, architectures and foreign checkpoints."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuroseg.cli.command import Command, Commands, typed_command
from neuroseg.cli.options import Json
from neuroseg.cli.summary import print_json
from neuroseg.cli.tile_text import tile_lines, tiles_of
from neuroseg.cli.tune import tune
from neuroseg.errors import InputError

if TYPE_CHECKING:
    from neuroseg.networks.bundle import Bundle

models = typer.Typer(
    cls=Commands,
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@models.callback()
def list_models(context: typer.Context, json: Json = False) -> None:
    """List the bundled models and the architectures.

    Use it to choose a --model, or a network to train.

    \b
    Examples:
      neuroseg models
      neuroseg models --json
    """
    if context.invoked_subcommand is not None:
        return
    content = {"models": _bundles(), "architectures": _architectures()}
    if json:
        print_json(content)
        return
    for card in content["models"]:
        _print_model(card)
    print("architectures for neuroseg train:")
    for made in content["architectures"]:
        context_text = " x ".join(map(str, made["receptive_context_voxels"]))
        print(f"    {made['name']:>12}: {made['parameters']:,} parameters, context {context_text} voxels on each side")


@models.command(cls=Command)
def show(
    model: Annotated[str, typer.Argument(metavar="NAME|FOLDER", help="Name of a bundled model, or a bundle folder.")],
    json: Json = False,
) -> None:
    """Describe a model: its scores, and its tiles on CPUs and GPUs.

    Use it to see how many voxels the network computes for each voxel of the result. Fewer are faster.

    \b
    Examples:
      neuroseg models show fib25_light
      neuroseg models show runs/mine/bundle --json
    """
    from neuroseg.networks.bundle import open_bundle

    content = _described(open_bundle(model))
    if json:
        print_json(content)
    else:
        _print_model(content)


@models.command(cls=Command)
def convert(
    context: typer.Context,
    checkpoint: Annotated[Path, typer.Argument(metavar="FILE.ckpt", help="Checkpoint of the published research code.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", help="Folder to write the bundle or encoder to.")
    ],
    voxel_size: Annotated[
        tuple[float, float, float], typer.Option(metavar="Z Y X", help="Voxel size of the training data in nm.")
    ] = (30.0, 6.0, 6.0),
    json: Json = False,
) -> None:
    """Convert a checkpoint of the published research code.

    Use it to run a published model. The result is a bundle for --model. A checkpoint of the pre-training becomes an
    encoder, for network.encoder in a training configuration.

    \b
    Examples:
      neuroseg models convert seg_ac3_d5_1024_u200_EMA.ckpt -o models/ac3_ema
      neuroseg run volume.zarr --model models/ac3_ema
    """
    from neuroseg.networks.encoder import ENCODER, save_encoder
    from neuroseg.networks.research import converted, read_checkpoint

    if not all(0 < edge < math.inf for edge in voxel_size):
        raise InputError(f"--voxel-size {' '.join(map(str, voxel_size))}: three positive lengths in nm are expected")
    if output.exists():
        raise InputError(f"{output} already exists", hint="choose another folder with -o")
    made = converted(read_checkpoint(checkpoint))
    if made.parameters.get("skips", True):
        _save_converted(output, checkpoint, made, voxel_size, typed_command(context))
        where, following = output, f"neuroseg run VOLUME --model {output}"
    else:
        output.mkdir(parents=True)
        own = {"widths": made.parameters["widths"]}
        save_encoder(output, made.network, made.architecture, own)
        where = output / ENCODER
        following = f"set network.encoder: {output} and network.parameters: {own} in CONFIG, then neuroseg train CONFIG"
    if json:
        print_json({"made": str(where), "architecture": made.architecture, "parameters": made.parameters})
        return
    print(f"{where}: {made.architecture}, all weights converted\n  next: {following}", file=sys.stderr)


models.command(cls=Command)(tune)


def _save_converted(
    folder: Path, checkpoint: Path, made: Any, voxel_size: tuple[float, float, float], command: str
) -> None:
    from neuroseg.networks.bundle import save_bundle
    from neuroseg.networks.card import Card, NetworkCard, SegmentationCard, TileCard, TrainingCard
    from neuroseg.networks.wide_tile import gpu_tile

    if made.architecture == "superhuman":
        # As in the published inference: blended windows of 18 x 160 x 160, at steps of 10 x 80 x 80.
        tile = TileCard(output_voxels=(10, 80, 80), context_voxels=(4, 40, 40), blend="gaussian")
    else:
        tile = TileCard(output_voxels=(25, 56, 56), context_voxels=(14, 106, 106))
    card = Card(
        name=folder.name,
        description=f"Converted from {checkpoint.name}, a checkpoint of the published research code.",
        network=NetworkCard(architecture=made.architecture, parameters=made.parameters),
        offsets=((-1, 0, 0), (0, -1, 0), (0, 0, -1)),
        voxel_size_nm=voxel_size,
        tile=tile,
        gpu_tile=gpu_tile(made.network.windows, tile),
        segmentation=SegmentationCard(scoring="quantile:50", threshold=0.5),
        training=TrainingCard(
            data="see the checkpoint's origin", licence="see the checkpoint's origin", command=command
        ),
    )
    save_bundle(folder, card, made.network.state_dict())


def _bundles() -> list[dict[str, Any]]:
    from neuroseg.networks.bundle import bundled_names, open_bundle

    return [_described(open_bundle(name)) for name in bundled_names()]


def _described(bundle: Bundle) -> dict[str, Any]:
    """Return the card of a model, its tiles on each kind of device, its path and the bytes of its weights."""
    from neuroseg.networks.bundle import WEIGHTS

    return {
        **bundle.card.model_dump(mode="json"),
        "tiles": tiles_of(bundle),
        "path": str(bundle.path),
        "bytes": (bundle.path / WEIGHTS).stat().st_size,
    }


def _print_model(card: dict[str, Any]) -> None:
    size = " x ".join(f"{edge:g}" for edge in card["voxel_size_nm"])
    segmentation, scores = card["segmentation"], card["scores"]
    print(f"{card['name']}: {card['description']}")
    print(f"    voxel size {size} nm, scoring {segmentation['scoring']}, threshold {segmentation['threshold']:g}")
    for name, text in tile_lines(card["tiles"]):
        print(f"    {name} {text}")
    print(f"    scores on {scores.get('validation', 'no validation data')}")
    for scoring, found in scores.get("scorings", {}).items():
        numbers = f"VOI sum {found['voi_sum']:.3f}, ARAND {found['arand']:.3f}"
        print(f"    {scoring:>14} at {found['threshold']:g}: {numbers}")
    print(f"    training data {card['training']['licence']}")


def _architectures() -> list[dict[str, Any]]:
    import torch

    from neuroseg.networks.architectures import ARCHITECTURES, build_network, parameter_count
    from neuroseg.networks.context import Reach, receptive_context
    from neuroseg.networks.windows import WindowRule

    found = []
    for name in ARCHITECTURES:
        with torch.device("meta"):
            network = build_network(name, {})
        assert isinstance(network.reach, Reach)
        assert isinstance(network.windows, WindowRule)
        found.append(
            {
                "name": name,
                "parameters": parameter_count(network),
                "receptive_context_voxels": receptive_context(network.reach),
                "margin_voxels": network.windows.margin,
                "windows": str(network.windows),
            }
        )
    return found

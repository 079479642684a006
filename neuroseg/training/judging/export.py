"""Averaged network and its validation -> a bundle with the best scoring and threshold, without auxiliary channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from neuroseg.networks.bundle import save_bundle
from neuroseg.networks.card import Card, NetworkCard, SegmentationCard, TileCard, TrainingCard
from neuroseg.networks.wide_tile import gpu_tile
from neuroseg.networks.windows import WindowRule
from neuroseg.training.judging.validate_network import Choice
from neuroseg.training.settings import TrainingSettings


@dataclass(frozen=True)
class Origin:
    """Name of a training's configuration, and the command line ("" if there is none)."""

    configuration: str
    command: str = ""


def export_bundle(
    folder: Path,
    network: nn.Module,
    settings: TrainingSettings,
    *,
    voxel_size_nm: tuple[float, float, float],
    step: int,
    choices: list[Choice],
    context: Mapping[str, float],
    origin: Origin,
    begun: Mapping[str, str] | None = None,
) -> None:
    """Write the bundle of a network. Its only outputs are the affinities.

    `choices`: sorted, the best first. `context`: see training/validation/context_effect.py. `begun`: the initial bundle
    (training/learning/initial_weights.py), whose data and licence are added to those of the training.
    """
    best, wanted = choices[0], settings.validation
    tile = TileCard(output_voxels=wanted.tile_voxels, context_voxels=wanted.context_voxels, blend=wanted.blend)
    assert isinstance(network.windows, WindowRule)
    card = Card(
        name=settings.name,
        description=settings.description,
        network=NetworkCard(
            architecture=settings.network.architecture,
            parameters={**settings.network.parameters, "outputs": len(settings.targets.offsets)},
        ),
        offsets=settings.targets.offsets,
        voxel_size_nm=voxel_size_nm,
        tile=tile,
        gpu_tile=gpu_tile(network.windows, tile),
        segmentation=SegmentationCard(scoring=best.scoring, threshold=best.threshold),
        training=_training(settings, step, origin, begun),
        scores=_scores(settings, choices, context),
    )
    save_bundle(folder, card, affinity_weights(network, len(settings.targets.offsets)))


def _training(settings: TrainingSettings, step: int, origin: Origin, begun: Mapping[str, str] | None) -> TrainingCard:
    data = [f"{v.raw} [{v.region or 'all'}]" for v in settings.data.training]
    data += [f"{v.raw} [{v.region or 'all'}] without labels" for v in settings.data.unlabelled]
    licences = [settings.licence]
    if settings.network.encoder is not None:
        data.append(f"begun with the encoder in {settings.network.encoder}")
    if begun is not None:
        data.append(f"begun with {begun['name']} ({begun['sha256'][:16]}), trained on {begun['data']}")
        licences.append(f"of {begun['name']}: {begun['licence'] or 'not stated'}")
    return TrainingCard(
        data="; ".join(data),
        licence="; ".join(text for text in licences if text),
        configuration=origin.configuration,
        seed=settings.seed,
        steps=step,
        command=origin.command,
    )


def _scores(settings: TrainingSettings, choices: list[Choice], context: Mapping[str, float]) -> dict[str, Any]:
    validation = settings.data.validation
    scorings = {
        c.scoring: {"threshold": c.threshold, **{name: round(value, 4) for name, value in c.scores.as_dict().items()}}
        for c in choices
    }
    return {
        "validation": f"{validation.raw} [{validation.region or 'all'}]" if validation else "none",
        "note": "the validation sweep chose scoring and threshold, so these are the best of the sweep",
        "scorings": scorings,
        "twice_the_context": dict(context),
    }


def affinity_weights(network: nn.Module, channels: int) -> dict[str, torch.Tensor]:
    """Return the weights of the network with only the first `channels` of its head. The others are auxiliary."""
    weights = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    for name in ("head.weight", "head.bias"):
        weights[name] = weights[name][:channels].clone()
    return weights

"""What a training begins with: weights drawn anew, a pre-trained encoder, or all the weights of a bundle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neuroseg.errors import InputError
from neuroseg.networks.architectures import with_defaults
from neuroseg.networks.bundle import open_bundle
from neuroseg.networks.encoder import load_encoder
from neuroseg.training.trainer import Trainer, output_channels

RAW_SCALE = 255.0  # what samples divide raw by


def begin(trainer: Trainer) -> None:
    """Let the network, and the average that teaches, begin with the encoder or the bundle that the settings name.

    Raises InputError when it is missing or belongs to another network, other channels or other offsets.
    """
    network = trainer.settings.network
    if network.encoder is not None:
        load_encoder(Path(network.encoder), trainer.network, network.architecture, network.parameters)
        trainer.begin_with(trainer.network.state_dict())
    if network.bundle is not None:
        _begin_with_bundle(trainer, network.bundle)


def _begin_with_bundle(trainer: Trainer, name: str) -> None:
    bundle, settings = open_bundle(name), trainer.settings
    card, network = bundle.card, settings.network
    if trainer.folder.resolve() in bundle.path.resolve().parents:
        raise InputError(
            f"network.bundle {bundle.path} lies in {trainer.folder}, which --restart empties; choose another"
        )
    own = {**network.parameters, "outputs": output_channels(settings)}
    found = _described(card.network.architecture, card.network.parameters, card.offsets, card.raw_scale)
    wanted = _described(network.architecture, own, settings.targets.offsets, RAW_SCALE)
    if found != wanted:
        raise InputError(
            f"network.bundle {name} is {found}; the training wants {wanted}. Bundles predict affinities alone: give "
            "network and targets.offsets as its card has them, targets.auxiliary_offsets: [] and "
            "targets.descriptor_sigma_nm: 0"
        )
    trainer.begin_with(bundle.network().state_dict())


def _described(
    architecture: str, parameters: Mapping[str, Any], offsets: Sequence[Sequence[int]], raw_scale: float
) -> str:
    every = json.dumps(with_defaults(architecture, parameters), sort_keys=True)
    return f"{architecture} {every} at offsets {[list(offset) for offset in offsets]} of raw divided by {raw_scale:g}"

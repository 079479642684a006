"""What a training begins with: weights drawn anew, a pre-trained encoder, or all the weights of a bundle."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from neuroseg.configuration import read_yaml
from neuroseg.errors import InputError
from neuroseg.geometry import Nanometres
from neuroseg.networks.architectures import with_defaults
from neuroseg.networks.bundle import open_bundle
from neuroseg.networks.card import Card
from neuroseg.networks.encoder import load_encoder
from neuroseg.storage.publish import publish_text
from neuroseg.training.learning.trainer import Trainer, output_channels
from neuroseg.training.settings import NetworkSettings, TrainingSettings

logger = logging.getLogger(__name__)
BEGINNING = "beginning.yaml"
RAW_SCALE = 255.0  # what samples divide raw by
_WARN_RATIO, _REFUSE_RATIO = 1.5, 3.0


def with_initial_bundle(
    settings: TrainingSettings, seen: TrainingSettings, bundle: str
) -> tuple[TrainingSettings, TrainingSettings]:
    """Return the settings, as written and as seen from the current folder (places.py), with `network.bundle`.

    Raises InputError when they begin with something else.
    """
    network, own = settings.network, seen.network.bundle
    if network.encoder is not None:
        raise InputError(
            f"--from {bundle}: the configuration begins with network.encoder {network.encoder}; leave out one of them"
        )
    if own is not None and Path(own).resolve() != Path(bundle).resolve():
        raise InputError(
            f"--from {bundle}: the configuration begins with network.bundle {network.bundle}; leave out one of them"
        )
    named = bundle.rstrip("/") or bundle
    as_written, as_seen = (
        each.model_copy(update={"network": each.network.model_copy(update={"bundle": each.network.bundle or named})})
        for each in (settings, seen)
    )
    return as_written, as_seen


def load_initial_weights(trainer: Trainer, network: NetworkSettings, voxel_size_nm: Nanometres) -> None:
    """Let the network, and the average that teaches, begin with the encoder or the bundle that `network` names.

    Raises InputError when it is missing or belongs to another network, other channels or other offsets, and when a
    bundle's voxels are more than three times as large or small as those that it is to learn from.
    """
    if network.encoder is not None:
        load_encoder(Path(network.encoder), trainer.network, network.architecture, network.parameters)
        trainer.begin_with(trainer.network.state_dict())
    if network.bundle is not None:
        _begin_with_bundle(trainer, network.bundle, voxel_size_nm)


def _begin_with_bundle(trainer: Trainer, name: str, voxel_size_nm: Nanometres) -> None:
    bundle, settings = open_bundle(name), trainer.settings
    card, network = bundle.card, settings.network
    if trainer.folder.resolve() in bundle.path.resolve().parents:
        raise InputError(
            f"network.bundle {bundle.path} lies in {trainer.folder}, which --restart empties; choose another"
        )
    _check_voxels(name, card, voxel_size_nm)
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


def write_origin(folder: Path, network: NetworkSettings) -> None:
    """Write what a training begins with into its folder: the model's data and licence are its own, too."""
    if network.bundle is None:
        return
    bundle = open_bundle(network.bundle)
    origin = bundle.card.training
    content = {"name": bundle.card.name, "sha256": bundle.sha256, "data": origin.data, "licence": origin.licence}
    publish_text(folder / BEGINNING, yaml.safe_dump(content, sort_keys=False))


def read_origin(folder: Path) -> dict[str, str] | None:
    """Return name, sha256, data and licence of the model that a folder's training began with, None if with none."""
    path = folder / BEGINNING
    return read_yaml(path) if path.exists() else None


def _check_voxels(name: str, card: Card, voxel_size_nm: Nanometres) -> None:
    ratio = max(max(a / b, b / a) for a, b in zip(card.voxel_size_nm, voxel_size_nm, strict=True))
    told = f"network.bundle {name} was trained at {card.voxel_size_nm} nm voxels, these have {voxel_size_nm} nm"
    if ratio > _REFUSE_RATIO:
        raise InputError(f"{told}; begin with another model, or train at another voxel size")
    if ratio > _WARN_RATIO:
        logger.warning("%s", told)


def _described(
    architecture: str, parameters: Mapping[str, Any], offsets: Sequence[Sequence[int]], raw_scale: float
) -> str:
    every = json.dumps(with_defaults(architecture, parameters), sort_keys=True)
    return f"{architecture} {every} at offsets {[list(offset) for offset in offsets]} of raw divided by {raw_scale:g}"

"""Initial weights of a training: random, a pre-trained encoder, or all weights of a bundle."""

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
ORIGIN = "beginning.yaml"
RAW_SCALE = 255.0  # samples are raw divided by this
_WARN_RATIO, _REFUSE_RATIO = 1.5, 3.0


def with_initial_bundle(
    settings: TrainingSettings, seen: TrainingSettings, bundle: str
) -> tuple[TrainingSettings, TrainingSettings]:
    """Return both settings, as written and relative to the current folder, with `network.bundle` set.

    Raises InputError if they set other initial weights.
    """
    network, own = settings.network, seen.network.bundle
    if network.encoder is not None:
        raise InputError(
            f"--from {bundle} conflicts with network.encoder {network.encoder} in the configuration",
            hint="remove one of them",
        )
    if own is not None and Path(own).resolve() != Path(bundle).resolve():
        raise InputError(
            f"--from {bundle} conflicts with network.bundle {network.bundle} in the configuration",
            hint="remove one of them",
        )
    named = bundle.rstrip("/") or bundle
    as_written, as_seen = (
        each.model_copy(update={"network": each.network.model_copy(update={"bundle": each.network.bundle or named})})
        for each in (settings, seen)
    )
    return as_written, as_seen


def load_initial_weights(trainer: Trainer, network: NetworkSettings, voxel_size_nm: Nanometres) -> None:
    """Load the encoder or the bundle that `network` names into the network and the average of its weights.

    Raises InputError if it is missing or has another architecture, other channels or other offsets. Also raises it if
    the voxel size of a bundle is more than three times larger or smaller than `voxel_size_nm`.
    """
    if network.encoder is not None:
        load_encoder(Path(network.encoder), trainer.network, network.architecture, network.parameters)
        trainer.begin_with(trainer.network.state_dict())
    if network.bundle is not None:
        _load_bundle(trainer, network.bundle, voxel_size_nm)


def _load_bundle(trainer: Trainer, name: str, voxel_size_nm: Nanometres) -> None:
    bundle, settings = open_bundle(name), trainer.settings
    card, network = bundle.card, settings.network
    if trainer.folder.resolve() in bundle.path.resolve().parents:
        raise InputError(
            f"network.bundle {bundle.path} is inside the output folder {trainer.folder}, which --restart empties",
            hint="choose another folder with -o",
        )
    _check_voxels(name, card, voxel_size_nm)
    own = {**network.parameters, "outputs": output_channels(settings)}
    found = _described(card.network.architecture, card.network.parameters, card.offsets, card.raw_scale)
    wanted = _described(network.architecture, own, settings.targets.offsets, RAW_SCALE)
    if found != wanted:
        raise InputError(
            f"network.bundle {name} is {found}; the training needs {wanted}",
            hint="copy network and targets.offsets from its card, and set targets.auxiliary_offsets: [] and "
            "targets.descriptor_sigma_nm: 0, because bundles predict only affinities",
        )
    trainer.begin_with(bundle.network().state_dict())


def write_origin(folder: Path, network: NetworkSettings) -> None:
    """Write name, hash, data and licence of the initial bundle into the folder of a training, for its own card."""
    if network.bundle is None:
        return
    bundle = open_bundle(network.bundle)
    origin = bundle.card.training
    content = {"name": bundle.card.name, "sha256": bundle.sha256, "data": origin.data, "licence": origin.licence}
    publish_text(folder / ORIGIN, yaml.safe_dump(content, sort_keys=False))


def read_origin(folder: Path) -> dict[str, str] | None:
    """Return name, sha256, data and licence of the initial bundle of a training, or None if there is none."""
    path = folder / ORIGIN
    return read_yaml(path) if path.exists() else None


def _check_voxels(name: str, card: Card, voxel_size_nm: Nanometres) -> None:
    ratio = max(max(a / b, b / a) for a, b in zip(card.voxel_size_nm, voxel_size_nm, strict=True))
    message = (
        f"network.bundle {name} was trained with voxels of {card.voxel_size_nm} nm, the training volume has voxels of "
        f"{voxel_size_nm} nm"
    )
    if ratio > _REFUSE_RATIO:
        raise InputError(message, hint="start from another model, or train at another voxel size")
    if ratio > _WARN_RATIO:
        logger.warning("%s", message)


def _described(
    architecture: str, parameters: Mapping[str, Any], offsets: Sequence[Sequence[int]], raw_scale: float
) -> str:
    every = json.dumps(with_defaults(architecture, parameters), sort_keys=True)
    return f"{architecture} {every} with offsets {[list(offset) for offset in offsets]} and raw_scale {raw_scale:g}"

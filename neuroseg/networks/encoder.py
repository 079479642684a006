"""The encoder of a network on disk: what pre-training leaves and training begins with."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from neuroseg.errors import InputError
from neuroseg.networks.architectures import with_defaults

ENCODER = "encoder.safetensors"
_PARTS = ("stem.", "encoder.")
# What of the parameters the encoder does not depend on.
_OF_THE_DECODER = ("outputs", "skips")


def save_encoder(folder: Path, network: nn.Module, architecture: str, parameters: Mapping[str, Any]) -> None:
    """Write `encoder.safetensors`: stem and encoder, the buffers of their normalisation, and what they belong to."""
    from safetensors.torch import save

    weights = {name: tensor.contiguous().cpu() for name, tensor in _encoder_of(network).items()}
    if not weights:
        raise InputError(f"architecture {architecture} has no encoder that could be pre-trained")
    aside = folder / f".{ENCODER}.partial"
    # Not save_file, which makes files that only their owner may read.
    aside.write_bytes(save(weights, metadata={"network": _described(architecture, parameters)}))
    os.replace(aside, folder / ENCODER)


def load_encoder(path: Path, network: nn.Module, architecture: str, parameters: Mapping[str, Any]) -> None:
    """Copy the encoder in `path` (a file, or the folder of a pre-training) into a network.

    Raises InputError when there is none, or when it belongs to another architecture or other widths.
    """
    from safetensors import safe_open

    file = path / ENCODER if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"no encoder at {path}: neuroseg pretrain leaves {ENCODER} in its folder")
    try:
        with safe_open(file, "pt") as stored:
            described = (stored.metadata() or {}).get("network", "")
            weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except Exception as error:
        raise InputError(f"the encoder in {file} cannot be read: {error}") from error
    wanted = _described(architecture, parameters)
    if described != wanted:
        raise InputError(f"the encoder in {file} belongs to {described or 'no network'}, not to {wanted}")
    own = _encoder_of(network)
    differing = sorted(
        name for name in own.keys() | weights.keys()
        if getattr(own.get(name), "shape", None) != getattr(weights.get(name), "shape", None)
    )  # fmt: skip
    if differing:
        raise InputError(f"the encoder in {file} does not fit: {differing[0]} ({len(differing)} differ)")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(weights[name])


def _encoder_of(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in network.state_dict().items() if name.startswith(_PARTS)}


def _described(architecture: str, parameters: Mapping[str, Any]) -> str:
    kept = {
        name: value for name, value in with_defaults(architecture, parameters).items() if name not in _OF_THE_DECODER
    }
    return f"{architecture} {json.dumps(kept, sort_keys=True)}"

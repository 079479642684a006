"""The encoder of a network on disk, written by pre-training and loaded by training."""

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
# Parameters that do not change the encoder.
_DECODER_PARAMETERS = ("outputs", "skips")


def save_encoder(folder: Path, network: nn.Module, architecture: str, parameters: Mapping[str, Any]) -> None:
    """Write `encoder.safetensors`: weights and normalisation buffers of stem and encoder, and the architecture."""
    from safetensors.torch import save

    weights = {name: tensor.contiguous().cpu() for name, tensor in _encoder_of(network).items()}
    if not weights:
        raise InputError(f"architecture {architecture} has no encoder and cannot be pre-trained")
    aside = folder / f".{ENCODER}.partial"
    # save_file would create files that only their owner can read.
    aside.write_bytes(save(weights, metadata={"network": _described(architecture, parameters)}))
    os.replace(aside, folder / ENCODER)


def load_encoder(path: Path, network: nn.Module, architecture: str, parameters: Mapping[str, Any]) -> None:
    """Load the encoder from `path` (a file, or the folder of a pre-training) into a network.

    Raises InputError if there is no encoder, or if its architecture or widths differ.
    """
    from safetensors import safe_open

    file = path / ENCODER if path.is_dir() else path
    if not file.is_file():
        raise InputError(
            f"no encoder at {path}", hint=f"use the folder of a neuroseg pretrain run; it contains {ENCODER}"
        )
    try:
        with safe_open(file, "pt") as stored:
            described = (stored.metadata() or {}).get("network", "")
            weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except Exception as error:
        raise InputError(f"cannot read the encoder {file}: {error}") from error
    wanted = _described(architecture, parameters)
    if described != wanted:
        raise InputError(f"the encoder {file} belongs to {described or 'an unknown network'}, not to {wanted}")
    own = _encoder_of(network)
    differing = sorted(
        name for name in own.keys() | weights.keys()
        if getattr(own.get(name), "shape", None) != getattr(weights.get(name), "shape", None)
    )  # fmt: skip
    if differing:
        raise InputError(f"the encoder {file} does not fit: {len(differing)} tensors differ, such as {differing[0]}")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(weights[name])


def _encoder_of(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in network.state_dict().items() if name.startswith(_PARTS)}


def _described(architecture: str, parameters: Mapping[str, Any]) -> str:
    kept = {
        name: value
        for name, value in with_defaults(architecture, parameters).items()
        if name not in _DECODER_PARAMETERS
    }
    return f"{architecture} {json.dumps(kept, sort_keys=True)}"

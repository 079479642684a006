"""Checkpoints of the published research code (weih527/SSNS-Net) -> our networks, mapped by the names of the weights.

No code in a checkpoint is executed. Only tensors and plain values are read; anything else is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from neuroseg.errors import InputError
from neuroseg.networks.architectures import build_network

_WRAPPERS = ("model_weights", "state_dict", "model")
_PREFIX = "module."
_BLOCK = {
    "block1.0": "planar", "block1.1": "planar_norm", "block2.0": "first", "block2.1": "first_norm",
    "block2.3": "second", "block3": "second_norm",
}  # fmt: skip


@dataclass(frozen=True)
class Converted:
    """A network with the weights of a checkpoint, and the architecture and parameters that build it."""

    architecture: str
    parameters: dict[str, Any]
    network: nn.Module


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """Return the weights in a `.ckpt` file by name, without the prefix added by training on several GPUs.

    Raises InputError unless the file contains only tensors and plain values.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except Exception as error:
        raise InputError(
            f"{path} does not contain only tensors and plain values: {error}",
            hint="if you trust the file, load it yourself and torch.save only its dictionary of tensors",
        ) from error
    if isinstance(content, Mapping):
        content = next((content[name] for name in _WRAPPERS if isinstance(content.get(name), Mapping)), content)
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise InputError(
            f"{path} contains no weights; expected a dictionary of tensors, or one with the key {_WRAPPERS[0]}"
        )
    return {str(name).removeprefix(_PREFIX): tensor for name, tensor in content.items()}


def converted(weights: Mapping[str, torch.Tensor]) -> Converted:
    """Return the network of a checkpoint: superhuman with or without skip connections, or MALA.

    Raises InputError if a weight is missing, unexpected, or has a wrong shape.
    """
    if "embed_in.0.weight" in weights:
        architecture, names = "superhuman", _superhuman_names()
        widths = [len(weights[f"{stage}.block3.weight"]) for stage in _stages() if f"{stage}.block3.weight" in weights]
        norm, outputs = weights.get("cat3.0.weight"), weights.get("out_put.0.weight")
    elif "dconv1.weight" in weights:
        architecture, names = "mala", _mala_names()
        widths = [len(weights[f"conv{2 * n + 1}.weight"]) for n in range(4) if f"conv{2 * n + 1}.weight" in weights]
        norm, outputs = None, weights.get("conv18.weight")
    else:
        raise InputError(f"the weights belong to neither superhuman nor mala: {', '.join(sorted(weights)[:3])} ...")
    parameters: dict[str, Any] = {"widths": widths, "outputs": 3 if outputs is None else len(outputs)}
    if norm is not None and len(norm) == widths[0]:
        parameters["skips"] = False
    network = build_network(architecture, parameters)
    network.load_state_dict(_renamed(weights, names, network.state_dict()))
    return Converted(architecture, parameters, network)


def _renamed(
    weights: Mapping[str, torch.Tensor], names: Mapping[str, str], wanted: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for name, tensor in weights.items():
        part, _, last = name.rpartition(".")
        if part not in names:
            raise InputError(f"the checkpoint contains an unexpected weight: {name}")
        found[f"{names[part]}.{last}"] = tensor
    for name, tensor in wanted.items():
        if name not in found and name.endswith("num_batches_tracked"):
            found[name] = tensor  # missing in old checkpoints; no result depends on it
    missing = sorted(wanted.keys() - found.keys())
    extra = sorted(found.keys() - wanted.keys())
    if missing or extra:
        raise InputError(f"the checkpoint does not fit: missing weights {missing[:3]}, unexpected weights {extra[:3]}")
    for name, tensor in wanted.items():
        if found[name].shape != tensor.shape:
            shapes = f"{name} has shape {tuple(found[name].shape)}, expected {tuple(tensor.shape)}"
            raise InputError(f"the checkpoint does not fit: {shapes}")
    return found


def _stages() -> list[str]:
    return ["conv0", "conv1", "conv2", "conv3", "center"]


def _superhuman_names() -> dict[str, str]:
    names = {"embed_in.0": "stem", "embed_out.0": "embedding", "out_put.0": "head"}
    blocks = {stage: f"encoder.{level}" for level, stage in enumerate(_stages())}
    for number in range(4):
        level = 3 - number
        names |= {
            f"up{number}.0": f"ups.{level}.raise_", f"up{number}.1": f"ups.{level}.narrow",
            f"cat{number}.0": f"merges.{level}.norm",
        }  # fmt: skip
        blocks[f"conv{4 + number}"] = f"merges.{level}.block"
    return names | {f"{of}.{part}": f"{to}.{name}" for of, to in blocks.items() for part, name in _BLOCK.items()}


def _mala_names() -> dict[str, str]:
    names = {"conv18": "head"}
    for level in range(4):
        names |= {f"conv{2 * level + 1}": f"down.{level}.first", f"conv{2 * level + 2}": f"down.{level}.second"}
    for number in range(3):
        level = 2 - number
        names |= {
            f"dconv{number + 1}": f"ups.{level}.raise_", f"conv{9 + 3 * number}": f"ups.{level}.narrow",
            f"conv{10 + 3 * number}": f"merges.{level}.first", f"conv{11 + 3 * number}": f"merges.{level}.second",
        }  # fmt: skip
    return names

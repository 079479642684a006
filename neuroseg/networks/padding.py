"""Channels of a network, padded with zeros: a GPU multiplies matrices fast if their sizes are multiples of 8.

    |<- 28 channels ->|<- 4 zeros ->|          two features side by side: |<- 28 ->|<- 4 ->|<- 28 ->|<- 4 ->|

A network names the modules whose input is two features side by side in `joined`. All its activations map 0 to 0.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn

MULTIPLE = 8
_HEAD = "head"


@dataclass(frozen=True)
class _Places:
    """The new places of channels, among `size`."""

    channels: tuple[int, ...]
    size: int


def padded(network: nn.Module, multiple: int = MULTIPLE) -> nn.Module:
    """Return a copy of a network whose inner channels are padded to a multiple. It is the same function.

    Input and output of the network keep their channels. A network with group normalisation is not padded: other groups
    would be another function.
    """
    result = copy.deepcopy(network)
    modules = dict(result.named_modules())
    if any(isinstance(module, nn.GroupNorm) for module in modules.values()):
        return result
    joined = getattr(result, "joined", ())
    for name, module in modules.items():
        parts = 2 if name in joined else 1
        if isinstance(module, nn.Conv3d):
            if module.in_channels > 1:  # all but the first convolution, which reads raw
                _pad(module, ("weight",), 1, _padded_places(module.in_channels, parts, multiple))
            if name != _HEAD:
                _pad(module, ("weight", "bias"), 0, _padded_places(module.out_channels, 1, multiple))
        elif isinstance(module, nn.ConvTranspose3d):
            assert module.groups == module.in_channels == module.out_channels, f"{name} mixes channels"
            _pad(module, ("weight", "bias"), 0, _padded_places(module.in_channels, parts, multiple))
            module.groups = len(module.weight)
        elif isinstance(module, nn.BatchNorm3d):
            places = _padded_places(module.num_features, parts, multiple)
            _pad(module, ("weight", "bias", "running_mean", "running_var"), 0, places)
    return result


def _padded_places(count: int, parts: int, multiple: int) -> _Places:
    """Return the places of `count` channels: `parts` features of equal width, each padded."""
    width = count // parts
    wide = -(-width // multiple) * multiple
    return _Places(tuple(part * wide + channel for part in range(parts) for channel in range(width)), parts * wide)


def _pad(module: nn.Module, names: tuple[str, ...], axis: int, places: _Places) -> None:
    """Replace tensors of a module by larger ones, which are 0 outside of `places` along an axis."""
    for name in names:
        old = getattr(module, name)
        if old is None:
            continue
        shape = list(old.shape)
        shape[axis] = places.size
        new = torch.zeros(shape, dtype=old.dtype, device=old.device)
        new.index_copy_(axis, torch.tensor(places.channels, device=old.device), old.detach())
        setattr(module, name, nn.Parameter(new, requires_grad=False) if isinstance(old, nn.Parameter) else new)

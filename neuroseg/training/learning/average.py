"""An exponential moving average of a network's weights, which is validated and exported."""

from __future__ import annotations

import copy

import torch
from torch import nn


class WeightAverage:
    """A copy of `network` with averaged weights.

    Each update moves the copy towards the network by `1 - decay`, faster during the first steps (Huang et al. 2022:
    decay = min(1 - 1 / (step + 1), decay)). Buffers such as batch statistics are averaged in the same way. If
    `with_buffers` is false, only passes through the copy change its buffers.
    """

    def __init__(self, network: nn.Module, decay: float, *, with_buffers: bool = True) -> None:
        self.network = copy.deepcopy(network).eval()
        self._decay, self._with_buffers = decay, with_buffers
        for parameter in self.network.parameters():
            parameter.requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move the average towards `network` after `step` (from 0)."""
        decay = min(1.0 - 1.0 / (step + 1), self._decay)
        for average, current in zip(self._state(self.network), self._state(network), strict=True):
            if average.is_floating_point():
                average.lerp_(current, 1.0 - decay)
            else:
                average.copy_(current)

    def _state(self, network: nn.Module) -> list[torch.Tensor]:
        return list(network.state_dict().values()) if self._with_buffers else list(network.parameters())

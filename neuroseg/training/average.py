"""An exponential moving average of a network's weights: what is validated and exported."""

from __future__ import annotations

import copy

import torch
from torch import nn


class WeightAverage:
    """Holds a copy of `network` whose floating-point state trails it.

    Each update moves the copy towards the network by `1 - decay`, faster during the first steps (Huang et al. 2022:
    decay = min(1 - 1 / (step + 1), decay)). Buffers such as batch statistics are averaged alike.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval()
        self._decay = decay
        for parameter in self.network.parameters():
            parameter.requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move the average towards `network` after `step` (from 0)."""
        decay = min(1.0 - 1.0 / (step + 1), self._decay)
        for average, current in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if average.is_floating_point():
                average.lerp_(current, 1.0 - decay)
            else:
                average.copy_(current)

"""The light isotropic U-Net: raw -> logits, fast enough for CPUs.

A residual 3D U-Net of four levels. Skip connections are added, not concatenated, so each convolution keeps the width
of its level. On CPUs with matrix units, the widths 16, 32, 64, 128 cost hardly more than half these widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from neuroseg.errors import InputError
from neuroseg.networks.context import Reach
from neuroseg.networks.windows import WindowRule

_GROUP_CHANNELS = 4


def _normalisation(kind: str, width: int) -> nn.Module:
    """Return batch normalisation, or group normalisation with four channels per group."""
    if kind not in ("batch", "group"):
        raise InputError(f"norm {kind!r} is unknown; expected batch or group")
    return nn.BatchNorm3d(width) if kind == "batch" else nn.GroupNorm(max(1, width // _GROUP_CHANNELS), width)


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions with normalisation, and a 1x1x1 shortcut if the width changes."""

    normalised: ClassVar = {"first": "first_norm", "second": "second_norm"}

    def __init__(self, width_in: int, width_out: int, norm: str) -> None:
        super().__init__()
        self.first = nn.Conv3d(width_in, width_out, 3, padding=1, bias=False)
        self.first_norm = _normalisation(norm, width_out)
        self.second = nn.Conv3d(width_out, width_out, 3, padding=1, bias=False)
        self.second_norm = _normalisation(norm, width_out)
        self.shortcut = nn.Conv3d(width_in, width_out, 1) if width_in != width_out else nn.Identity()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return `(n, width_out, z, y, x)` of `(n, width_in, z, y, x)`."""
        hidden = functional.relu(self.first_norm(self.first(features)))
        return functional.relu(self.second_norm(self.second(hidden)) + self.shortcut(features))


class LightUNet(nn.Module):
    """Maps raw `(n, 1, z, y, x)` in [0, 1] to logits `(n, outputs, z, y, x)`.

    Convolutions are zero padded: output and input have one shape. Each axis must be divisible by
    `2 ** (len(widths) - 1)`. Pre-training uses the network without `skips`: all information passes the bottom level.
    """

    def __init__(
        self,
        widths: Sequence[int] = (16, 32, 64, 128),
        outputs: int = 3,
        skips: bool = True,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        divisor = 2 ** (len(widths) - 1)
        self.windows = WindowRule((divisor, divisor, divisor))
        self.reach = Reach(len(widths), pool=(2, 2, 2), block=(2, 2, 2), stem=(1, 1, 1))
        self._skips = skips
        self.stem = nn.Conv3d(1, widths[0], 3, padding=1)
        sources = [widths[0], *widths[:-1]]
        self.encoder = nn.ModuleList(
            ResidualBlock(source, width, norm) for source, width in zip(sources, widths, strict=True)
        )
        self.ups = nn.ModuleList(
            nn.Conv3d(below, width, 1) for below, width in zip(widths[1:], widths[:-1], strict=True)
        )
        self.decoder = nn.ModuleList(ResidualBlock(width, width, norm) for width in widths[:-1])
        self.head = nn.Conv3d(widths[0], outputs, 1)

    def forward(self, raw: torch.Tensor) -> torch.Tensor:
        """Return the logits of `raw`."""
        features = self.stem(raw)
        skips: list[torch.Tensor] = []
        for level, block in enumerate(self.encoder):
            features = block(functional.max_pool3d(features, 2) if level else features)
            skips.append(features)
        for level in reversed(range(len(self.decoder))):
            raised = functional.interpolate(self.ups[level](features), scale_factor=2.0, mode="nearest")
            features = self.decoder[level](skips[level] + raised if self._skips else raised)
        logits: torch.Tensor = self.head(features)
        return logits

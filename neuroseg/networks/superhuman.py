"""The superhuman U-Net: raw -> logits. Anisotropic (no pooling along z), 1,555,471 parameters.

Architecture of Lee et al., "Superhuman accuracy on the SNEMI3D connectomics challenge" (2017), with the widths,
normalisation and initialisation of Huang et al. (IEEE TMI 2022). The network returns logits, which training needs.
Prediction applies the sigmoid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from neuroseg.networks.context import Reach
from neuroseg.networks.windows import WindowRule

_BATCH_NORM_MOMENTUM = 0.001


def _norm(width: int) -> nn.BatchNorm3d:
    return nn.BatchNorm3d(width, momentum=_BATCH_NORM_MOMENTUM)


class ResidualBlock(nn.Module):
    """r = ELU(BN(conv 1x3x3)); out = ELU(BN(r + conv 3x3x3(ELU(BN(conv 3x3x3 r)))))."""

    normalised: ClassVar = {"planar": "planar_norm", "first": "first_norm"}

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.planar = nn.Conv3d(width_in, width_out, (1, 3, 3), padding=(0, 1, 1), bias=False)
        self.planar_norm = _norm(width_out)
        self.first = nn.Conv3d(width_out, width_out, 3, padding=1, bias=False)
        self.first_norm = _norm(width_out)
        self.second = nn.Conv3d(width_out, width_out, 3, padding=1, bias=False)
        self.second_norm = _norm(width_out)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return `(n, width_out, z, y, x)` of `(n, width_in, z, y, x)`."""
        planar = functional.elu(self.planar_norm(self.planar(features)))
        hidden = functional.elu(self.first_norm(self.first(planar)))
        return functional.elu(self.second_norm(planar + self.second(hidden)))


class Up(nn.Module):
    """Depthwise transposed convolution by (1, 2, 2), then a 1x1x1 convolution to the next width."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.raise_ = nn.ConvTranspose3d(width_in, width_in, (1, 2, 2), stride=(1, 2, 2), groups=width_in)
        self.narrow = nn.Conv3d(width_in, width_out, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return `(n, width_out, z, 2y, 2x)` of `(n, width_in, z, y, x)`."""
        narrowed: torch.Tensor = self.narrow(self.raise_(features))
        return narrowed


class Merge(nn.Module):
    """Normalise [up, skip] (or only up) and reduce it to `width` channels with a residual block."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.norm = _norm(width_in)
        self.block = ResidualBlock(width_in, width)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return `(n, width, z, y, x)` of `(n, width_in, z, y, x)`."""
        merged: torch.Tensor = self.block(functional.elu(self.norm(features)))
        return merged


class SuperhumanUNet(nn.Module):
    """Maps raw `(n, 1, z, y, x)` in [0, 1] to logits `(n, outputs, z, y, x)`; y and x must be divisible by 16.

    Pre-training uses the network without `skips`: all information passes the bottom level (1,478,741 parameters with
    one output).
    """

    def __init__(self, widths: Sequence[int] = (28, 36, 48, 64, 80), outputs: int = 3, skips: bool = True) -> None:
        super().__init__()
        self.windows = WindowRule((1, 2 ** (len(widths) - 1), 2 ** (len(widths) - 1)))
        self.reach = Reach(len(widths), pool=(1, 2, 2), block=(2, 3, 3), stem=(0, 2, 2), end=(0, 2, 2))
        self._skips = skips
        levels = range(len(widths) - 1) if skips else ()
        self.joined = [f"merges.{level}.{module}" for level in levels for module in ("norm", "block.planar")]
        self.stem = nn.Conv3d(1, widths[0], (1, 5, 5), padding=(0, 2, 2))
        sources = [widths[0], *widths[:-1]]
        self.encoder = nn.ModuleList(
            ResidualBlock(source, width) for source, width in zip(sources, widths, strict=True)
        )
        self.ups = nn.ModuleList(Up(below, width) for below, width in zip(widths[1:], widths[:-1], strict=True))
        self.merges = nn.ModuleList(Merge(2 * width if skips else width, width) for width in widths[:-1])
        self.embedding = nn.Conv3d(widths[0], widths[0], (1, 5, 5), padding=(0, 2, 2))
        self.head = nn.Conv3d(widths[0], outputs, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, raw: torch.Tensor) -> torch.Tensor:
        """Return the logits of `raw`."""
        features = functional.elu(self.stem(raw))
        skips: list[torch.Tensor] = []
        for level, block in enumerate(self.encoder):
            features = block(functional.max_pool3d(features, (1, 2, 2)) if level else features)
            skips.append(features)
        for level in reversed(range(len(self.merges))):
            raised = self.ups[level](features)
            features = self.merges[level](torch.cat([raised, skips[level]], dim=1) if self._skips else raised)
        logits: torch.Tensor = self.head(functional.elu(self.embedding(features)))
        return logits

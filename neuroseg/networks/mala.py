"""The MALA U-Net: raw -> logits. Valid convolutions, no pooling along z, 84,020,475 parameters.

Architecture of Funke et al., "Large scale image segmentation with structured loss based deep learning for connectome
reconstruction" (IEEE TPAMI, 2019), with the widths of Huang et al. (IEEE TMI 2022). The output is smaller than the
input: 53 x 268 x 268 voxels give 25 x 56 x 56. Each output voxel has its full context.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from neuroseg.networks.context import Reach
from neuroseg.networks.windows import WindowRule

_SLOPE = 0.005
_POOL = (1, 3, 3)


class Convolutions(nn.Module):
    """Two valid 3x3x3 convolutions, each followed by a leaky ReLU. Removes two voxels on each side."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(width_in, width_out, 3)
        self.second = nn.Conv3d(width_out, width_out, 3)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return `(n, width_out, z - 4, y - 4, x - 4)` of `(n, width_in, z, y, x)`."""
        hidden = functional.leaky_relu(self.first(features), _SLOPE)
        return functional.leaky_relu(self.second(hidden), _SLOPE)


class Up(nn.Module):
    """Depthwise transposed convolution by (1, 3, 3), then a 1x1x1 convolution to the next width."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.raise_ = nn.ConvTranspose3d(width_in, width_in, _POOL, stride=_POOL, groups=width_in, bias=False)
        self.narrow = nn.Conv3d(width_in, width_out, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return `(n, width_out, z, 3y, 3x)` of `(n, width_in, z, y, x)`."""
        narrowed: torch.Tensor = self.narrow(self.raise_(features))
        return narrowed


class MalaUNet(nn.Module):
    """Maps raw `(n, 1, z, y, x)` in [0, 1] to logits `(n, outputs, z - 28, y - 212, x - 212)` (for four widths)."""

    def __init__(self, widths: Sequence[int] = (12, 60, 300, 1500), outputs: int = 3) -> None:
        super().__init__()
        self.windows = _window_rule(len(widths))
        self.reach = Reach(len(widths), pool=_POOL, block=(2, 2, 2))
        self.joined = [f"merges.{level}.first" for level in range(len(widths) - 1)]
        self.down = nn.ModuleList(
            Convolutions(source, width) for source, width in zip([1, *widths[:-1]], widths, strict=True)
        )
        self.ups = nn.ModuleList(Up(below, width) for below, width in zip(widths[1:], widths[:-1], strict=True))
        self.merges = nn.ModuleList(Convolutions(2 * width, width) for width in widths[:-1])
        self.head = nn.Conv3d(widths[0], outputs, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                nn.init.kaiming_normal_(module.weight, _SLOPE, "fan_in", "leaky_relu")

    def forward(self, raw: torch.Tensor) -> torch.Tensor:
        """Return the logits of `raw`."""
        features = raw
        skips: list[torch.Tensor] = []
        for level, block in enumerate(self.down):
            features = block(functional.max_pool3d(features, _POOL) if level else features)
            skips.append(features)
        for level in reversed(range(len(self.merges))):
            raised = self.ups[level](features)
            features = self.merges[level](torch.cat([raised, _centre(skips[level], raised.shape)], dim=1))
        logits: torch.Tensor = self.head(features)
        return logits


def _centre(tensor: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Return the central part of `tensor` with the last three axes of `shape`."""
    starts = [(size - width) // 2 for size, width in zip(tensor.shape[2:], shape[2:], strict=True)]
    box = tuple(slice(start, start + width) for start, width in zip(starts, shape[2:], strict=True))
    return tensor[(slice(None), slice(None), *box)]


def _window_rule(levels: int) -> WindowRule:
    """Return the rule for windows that all pooling steps divide evenly."""

    def outside(bottom: int) -> int:
        """Return the input width for `bottom` voxels at the bottom level."""
        width = bottom + 4
        for _ in range(levels - 1):
            width = 3 * width + 4
        return width

    def inside(bottom: int) -> int:
        """Return the output width for `bottom` voxels at the bottom level."""
        for _ in range(levels - 1):
            bottom = 3 * bottom - 4
        return bottom

    divisor = 3 ** (levels - 1)
    least = next(bottom for bottom in range(1, 4) if inside(bottom) > 0)
    lost, lost_z = outside(0) - inside(0), 4 * (2 * levels - 1)
    return WindowRule(
        divisor=(1, divisor, divisor),
        remainder=(0, outside(0) % divisor, outside(0) % divisor),
        margin=(lost_z // 2, lost // 2, lost // 2),
        least=(lost_z + 1, outside(least), outside(least)),
    )

"""Training precision: bfloat16 (automatic mixed precision) or float32."""

from __future__ import annotations

import logging

import torch
from torch import nn

from neuroseg.training.settings import Precision

logger = logging.getLogger(__name__)


def predicted(network: nn.Module, raw: torch.Tensor, precision: Precision) -> torch.Tensor:
    """Return the output of a network for crops `(n, channels, z, y, x)`, with gradients. Weights stay float32.

    With `bfloat16`, the network uses automatic mixed precision and returns bfloat16. With `float32`, torch's defaults
    apply: on GPUs since Ampere, convolutions use TF32.
    """
    with torch.autocast(raw.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        found: torch.Tensor = network(raw.contiguous(memory_format=torch.channels_last_3d))
    return found


def warn_if_emulated(device: torch.device, precision: Precision) -> None:
    """Warn if a GPU only emulates bfloat16, which gives the same results many times slower."""
    if device.type != "cuda" or precision != "bfloat16":
        return
    with torch.cuda.device(device):  # torch queries the current device
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return
    logger.warning(
        "%s emulates bfloat16, which is slow; set optimiser.precision or --precision to float32",
        torch.cuda.get_device_name(device),
    )

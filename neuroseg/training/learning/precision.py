"""The precision in which a network in training multiplies."""

from __future__ import annotations

import logging

import torch
from torch import nn

from neuroseg.training.settings import Precision

logger = logging.getLogger(__name__)


def predicted(network: nn.Module, raw: torch.Tensor, precision: Precision) -> torch.Tensor:
    """Return what a network makes of crops `(n, channels, z, y, x)`; gradients flow, weights stay float32.

    In `bfloat16` it multiplies in that (automatic mixed precision) and returns bfloat16, in `float32` nothing is
    shorter than torch makes it by itself: on GPUs since Ampere convolutions round their factors to TF32.
    """
    with torch.autocast(raw.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        found: torch.Tensor = network(raw.contiguous(memory_format=torch.channels_last_3d))
    return found


def warn_if_emulated(device: torch.device, precision: Precision) -> None:
    """Say so when a GPU has no bfloat16 of its own: it computes the same, many times slower."""
    if device.type != "cuda" or precision != "bfloat16":
        return
    with torch.cuda.device(device):  # torch answers for the current one
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return
    logger.warning(
        "%s has no bfloat16 and emulates it, which is slow; float32 is faster here (optimiser.precision, --precision)",
        torch.cuda.get_device_name(device),
    )

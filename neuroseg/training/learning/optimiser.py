"""The optimiser, its learning rate, and one step of it."""

from __future__ import annotations

import math
import os
from pathlib import Path

import torch
from torch import nn

from neuroseg.errors import NeurosegError
from neuroseg.training.learning.records import save_checkpoint
from neuroseg.training.settings import OptimiserSettings


def build_optimiser(network: nn.Module, settings: OptimiserSettings) -> torch.optim.Optimizer:
    """Return Adam with decoupled weight decay (`adamw`), or Adam as in the published training (`adam`)."""
    made = torch.optim.AdamW if settings.algorithm == "adamw" else torch.optim.Adam
    return made(
        network.parameters(),
        settings.learning_rate,
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
        amsgrad=settings.amsgrad,
    )


def learning_rate(step: int, settings: OptimiserSettings) -> float:
    """Return the learning rate of `step`: linear warm-up, then constant or half a cosine down to zero."""
    if step < settings.warm_up_steps:
        return settings.learning_rate * (step + 1) / settings.warm_up_steps
    if settings.schedule == "constant":
        return settings.learning_rate
    progress = (step - settings.warm_up_steps) / max(1, settings.steps - settings.warm_up_steps)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def take_step(
    loss: torch.Tensor,
    batch: dict[str, torch.Tensor],
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    settings: OptimiserSettings,
    step: int,
    folder: Path,
) -> None:
    """Take one optimiser step. The norm of the gradient is clipped if the settings say so.

    Raises NeurosegError if the loss or the gradient is not finite. The weights are then unchanged, and the batch is
    saved in `folder`.
    """
    _require_finite("loss", loss, step, batch, folder)
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(step, settings)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    most = math.inf if settings.gradient_norm is None else settings.gradient_norm
    norm = nn.utils.clip_grad_norm_(network.parameters(), most)
    _require_finite("norm of the gradient", norm, step, batch, folder)
    optimiser.step()


def _require_finite(what: str, value: torch.Tensor, step: int, batch: dict[str, torch.Tensor], folder: Path) -> None:
    if torch.isfinite(value):
        return
    # Each process has its own batch.
    process = os.environ.get("RANK", "0")
    path = folder / (f"batch-{step}.pt" if process == "0" else f"batch-{step}-process-{process}.pt")
    save_checkpoint(path, {name: tensor.cpu() for name, tensor in batch.items()})
    raise NeurosegError(
        f"the {what} is {value.item()} at step {step}; the batch is saved in {path}",
        hint="lower optimiser.learning_rate and train again with --restart",
    )

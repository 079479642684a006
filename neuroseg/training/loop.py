"""The training loop: samples -> network -> loss -> weights, validated and exported on the way."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from neuroseg.errors import NeurosegError
from neuroseg.networks.architectures import build_network
from neuroseg.training.average import WeightAverage
from neuroseg.training.consistency import (
    consistency_loss,
    consistency_weight,
    expected_affinities,
    untouched_statistics,
)
from neuroseg.training.descriptors import CHANNELS
from neuroseg.training.losses import training_loss
from neuroseg.training.records import Records, load_checkpoint, save_checkpoint
from neuroseg.training.samples import Samples
from neuroseg.training.settings import ConsistencySettings, OptimiserSettings, TrainingSettings
from neuroseg.training.unlabelled import Pairs

Validate = Callable[[nn.Module, int], dict[str, float]]
_LOG_EVERY_STEPS = 20


def output_channels(settings: TrainingSettings) -> int:
    """Return how many channels the network has while it trains: affinities, auxiliary ones, descriptors."""
    targets = settings.targets
    described = CHANNELS if targets.descriptor_sigma_nm > 0 else 0
    return len(targets.offsets) + len(targets.auxiliary_offsets) + described


def learning_rate(step: int, settings: OptimiserSettings) -> float:
    """Return the learning rate of `step`: linear warm-up, then half a cosine down to zero."""
    if step < settings.warm_up_steps:
        return settings.learning_rate * (step + 1) / settings.warm_up_steps
    progress = (step - settings.warm_up_steps) / max(1, settings.steps - settings.warm_up_steps)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


class Trainer:
    """Holds what a checkpoint saves: network, averaged weights, optimiser and step."""

    def __init__(self, settings: TrainingSettings, folder: Path, device: torch.device) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.folder, self.device = settings, folder, device
        parameters = {**settings.network.parameters, "outputs": output_channels(settings)}
        network = build_network(settings.network.architecture, parameters)
        self.network = network.to(device=device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.average = WeightAverage(self.network, settings.optimiser.average_decay)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), settings.optimiser.learning_rate, weight_decay=settings.optimiser.weight_decay
        )
        self.step = 0

    def save(self) -> None:
        """Write `checkpoint.pt`; training resumed from it gives the same weights as training that never stopped."""
        state = {
            "settings": self.settings.model_dump(mode="json", exclude={"data": {"folders"}, "validation": True}),
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        save_checkpoint(self.folder / "checkpoint.pt", state)

    def load(self) -> None:
        """Continue from `checkpoint.pt`."""
        state = load_checkpoint(self.folder / "checkpoint.pt")
        self.network.load_state_dict(state["network"])
        self.average.network.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = int(state["step"])

    def update(self, batch: dict[str, torch.Tensor]) -> dict[str, float]:
        """Take one step; returns the parts of the loss. Raises NeurosegError when the loss is not finite."""
        settings = self.settings
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.step, settings.optimiser)
        batch = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
        losses = self._losses(batch)
        if not torch.isfinite(losses["total"]):
            raise NeurosegError(f"the loss is {losses['total'].item()} at step {self.step}; lower the learning rate")
        self.optimiser.zero_grad(set_to_none=True)
        losses["total"].backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), settings.optimiser.gradient_norm)
        self.optimiser.step()
        self.average.update(self.network, self.step)
        self.step += 1
        return {name: loss.item() for name, loss in losses.items()}

    def _losses(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the parts of the loss and their total; labelled and perturbed crops pass the network together."""
        settings, consistency = self.settings, self.settings.consistency
        labelled = len(batch["raw"])
        raw = batch["raw"] if consistency is None else torch.cat([batch["raw"], batch["perturbed"]])
        expected = None if consistency is None else self._expected(batch, consistency)
        with torch.autocast(self.device.type, torch.bfloat16):
            logits = self.network(raw.contiguous(memory_format=torch.channels_last_3d))
        losses = training_loss(
            logits[:labelled],
            batch,
            affinity_channels=len(settings.targets.offsets),
            auxiliary_weight=settings.targets.auxiliary_weight,
            descriptor_weight=settings.targets.descriptor_weight,
        )
        if consistency is not None and expected is not None:
            losses["consistency"] = consistency_loss(logits[labelled:], *expected)
            losses["total"] = losses["total"] + consistency_weight(self.step, consistency) * losses["consistency"]
        return losses

    def _expected(
        self, batch: dict[str, torch.Tensor], consistency: ConsistencySettings
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the teacher expects of the perturbed crops, and where it is known."""
        offsets = self.settings.targets.offsets
        if consistency.teacher == "ema" and not consistency.published:
            return expected_affinities(self.average.network, batch, offsets, consistency)
        if consistency.teacher == "ema":
            self.average.network.train()
            try:
                return expected_affinities(self.average.network, batch, offsets, consistency)
            finally:
                self.average.network.eval()
        # Running statistics trail the weights; those of the clean crops themselves do not, and need not be remembered.
        with contextlib.nullcontext() if consistency.published else untouched_statistics(self.network):
            return expected_affinities(self.network, batch, offsets, consistency)


def batches(samples: Samples | Pairs, settings: TrainingSettings) -> Iterator[dict[str, torch.Tensor]]:
    """Yield batches of tensors in the order of the samples, made in `loader_workers` other processes."""
    loader: Any = DataLoader(
        samples,  # type: ignore[arg-type]
        batch_size=settings.optimiser.batch,
        num_workers=settings.loader_workers,
        worker_init_fn=_one_thread,
        prefetch_factor=4 if settings.loader_workers else None,
    )
    yield from loader


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)


def run_training(trainer: Trainer, samples: Samples | Pairs, validate: Validate, *, progress: bool = True) -> None:
    """Train until the last step, saving and validating every `validation.every_steps`.

    `validate(averaged network, step)` returns named numbers to log; it keeps the best bundle itself.
    """
    settings = trainer.settings
    records = Records(trainer.folder)
    bar = tqdm(total=settings.optimiser.steps, initial=trainer.step, unit="step", disable=not progress, mininterval=5)
    started, first = time.monotonic(), trainer.step
    try:
        for batch in batches(samples, settings):
            losses = trainer.update(batch)
            bar.update()
            if trainer.step % _LOG_EVERY_STEPS == 0 or trainer.step == settings.optimiser.steps:
                rate = (trainer.step - first) / (time.monotonic() - started)
                bar.set_postfix_str(" ".join(f"{name} {value:.3f}" for name, value in losses.items()))
                records.write(trainer.step, {**{f"loss/{k}": v for k, v in losses.items()}, "steps_per_s": rate})
            if trainer.step % settings.validation.every_steps == 0 or trainer.step == settings.optimiser.steps:
                # Validated before it is saved: a training cut off in between validates again when it resumes.
                scores = validate(trainer.average.network, trainer.step)
                trainer.save()
                records.write(trainer.step, {f"validation/{name}": value for name, value in scores.items()})
    finally:
        bar.close()
        records.close()

"""One step of training: batch -> losses -> weights and their average."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from torch import nn

from neuroseg.networks.architectures import build_network
from neuroseg.training.data.descriptors import CHANNELS
from neuroseg.training.learning.average import WeightAverage
from neuroseg.training.learning.consistency import (
    consistency_loss,
    consistency_weight,
    expected_affinities,
    frozen_statistics,
)
from neuroseg.training.learning.losses import training_loss
from neuroseg.training.learning.optimiser import build_optimiser, take_step
from neuroseg.training.learning.precision import predicted
from neuroseg.training.learning.processes import ProcessGroup
from neuroseg.training.learning.records import load_checkpoint, save_checkpoint, use_as_many_threads
from neuroseg.training.settings import ConsistencySettings, TrainingSettings


def output_channels(settings: TrainingSettings) -> int:
    """Return the number of output channels during training: affinities, auxiliary affinities and descriptors."""
    targets = settings.targets
    described = CHANNELS if targets.descriptor_sigma_nm > 0 else 0
    return len(targets.offsets) + len(targets.auxiliary_offsets) + described


class Trainer:
    """State of a training: network, averaged weights, optimiser and step, as saved in a checkpoint."""

    def __init__(self, settings: TrainingSettings, folder: Path, device: torch.device, group: ProcessGroup) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.folder, self.device, self.group = settings, folder, device, group
        parameters = {**settings.network.parameters, "outputs": output_channels(settings)}
        network = group.with_shared_statistics(build_network(settings.network.architecture, parameters), device)
        self.network = network.to(device=device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self._parallel = group.parallel(self.network, device)
        published = settings.consistency is not None and settings.consistency.published
        self.average = WeightAverage(self.network, settings.optimiser.average_decay, with_buffers=not published)
        self.optimiser = build_optimiser(self.network, settings.optimiser)
        self.step = self.validated = 0
        self._seen: dict[str, torch.Tensor] = {}

    def begin_with(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Set the weights of the network and of the average."""
        self.network.load_state_dict(weights)
        self.average.network.load_state_dict(weights)

    def network_to_validate(self) -> nn.Module:
        """Return the network to validate and export: the average.

        For published training with weight sharing, return a copy of the network itself.
        """
        consistency = self.settings.consistency
        if consistency is None or not consistency.published or consistency.teacher == "ema":
            return self.average.network
        student: nn.Module = copy.deepcopy(self.network)
        return student.eval()

    def save(self) -> None:
        """Write `checkpoint.pt`. A resumed training gives the same weights as an uninterrupted one."""
        state = {
            "step": self.step,
            "validated": self.validated,
            "processes": self.group.size,
            "threads": torch.get_num_threads(),
            "network": self.network.state_dict(),
            "average": self.average.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        save_checkpoint(self.folder / "checkpoint.pt", state)

    def load(self) -> None:
        """Continue from `checkpoint.pt`."""
        state = load_checkpoint(self.folder / "checkpoint.pt")
        self.group.require_size(state["processes"], self.folder)
        use_as_many_threads(state.get("threads"), self.device)
        self.network.load_state_dict(state["network"])
        self.average.network.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.validated = int(state["step"]), int(state["validated"])

    def update(self, batch: dict[str, torch.Tensor]) -> dict[str, float]:
        """Take one step and return the parts of the loss.

        Raises NeurosegError if the loss or its gradient is not finite.
        """
        batch = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
        losses = self._losses(batch)
        settings = self.settings.optimiser
        take_step(losses["total"], batch, self.network, self.optimiser, settings, self.step, self.folder)
        self.average.update(self.network, self.step)
        self.step += 1
        return {name: loss.item() for name, loss in losses.items()}

    def pictures(self) -> dict[str, torch.Tensor]:
        """Return the middle section of the first crops of the last step, `(channels, y, x)` in [0, 1].

        Each has 1 or 3 channels. Labelled crop: raw, target and prediction. Crop without labels: perturbed raw,
        expected affinities and prediction.
        """
        return {name: tensor[0, :3, tensor.shape[2] // 2].float().cpu() for name, tensor in self._seen.items()}

    def _losses(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the parts of the loss and their total."""
        consistency = self.settings.consistency
        weight = 0.0 if consistency is None else consistency_weight(self.step, consistency)
        self._seen = {}
        if consistency is None or weight == 0.0:
            return self._supervised(self._logits(batch["raw"]), batch)
        expected = self._expected(batch, consistency)
        logits, unlabelled = self._both(batch, together=consistency.published)
        losses = {"total": torch.zeros((), device=self.device)} if logits is None else self._supervised(logits, batch)
        losses["consistency"] = consistency_loss(unlabelled, *expected, self._inner(), self.group.mean_of)
        losses["total"] = losses["total"] + weight * losses["consistency"]
        self._seen |= {
            "unlabelled": batch["perturbed"], "expected": expected[0], "said": unlabelled.detach().sigmoid(),
        }  # fmt: skip
        return losses

    def _logits(self, raw: torch.Tensor) -> torch.Tensor:
        return predicted(self._parallel, raw, self.settings.optimiser.precision)

    def _both(self, batch: dict[str, torch.Tensor], *, together: bool) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Return the logits of the labelled crops (None if there are none) and of the perturbed crops.

        The model is used on raw without perturbations. Only labelled crops therefore change the running statistics of
        batch normalisation, unless all crops pass `together`.
        """
        if "raw" not in batch:
            return None, self._logits(batch["perturbed"])
        if together:
            logits = self._logits(torch.cat([batch["raw"], batch["perturbed"]]))
            return logits[: len(batch["raw"])], logits[len(batch["raw"]) :]
        labelled = self._logits(batch["raw"])
        with frozen_statistics(self.network):
            return labelled, self._logits(batch["perturbed"])

    def _inner(self) -> list[int]:
        """Return the shape of a patch without its margins."""
        optimiser = self.settings.optimiser
        return [p - 2 * m for p, m in zip(optimiser.patch_voxels, optimiser.margin_voxels, strict=True)]

    def _supervised(self, logits: torch.Tensor, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        targets = self.settings.targets
        self._seen |= {"raw": batch["raw"], "target": batch["targets"], "prediction": logits.detach().sigmoid()}
        return training_loss(
            logits,
            batch,
            affinity_channels=len(targets.offsets),
            auxiliary_weight=targets.auxiliary_weight,
            descriptor_weight=targets.descriptor_weight,
            balanced=targets.balanced,
            mean_of=self.group.mean_of,
        )

    def _expected(
        self, batch: dict[str, torch.Tensor], consistency: ConsistencySettings
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the affinities that the teacher expects of the perturbed crops, and their mask."""
        # Running statistics lag behind the weights. The teacher uses those of the clean crops and does not store them.
        teacher = self.average.network if consistency.teacher == "ema" else self.network
        remembering = contextlib.nullcontext() if consistency.published else frozen_statistics(teacher)
        teacher.train()
        try:
            with remembering:
                taught = partial(predicted, teacher, precision=self.settings.optimiser.precision)
                return expected_affinities(taught, batch, self.settings.targets.offsets, consistency)
        finally:
            self.average.network.eval()

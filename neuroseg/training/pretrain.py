"""The whole of `neuroseg pretrain`: volumes without labels -> an encoder that training begins with.

A network without skip connections learns to restore a clean crop from a perturbed one (Huang et al., IEEE TMI 2022);
its encoder is what is kept.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from neuroseg.affinities.device import choose_device
from neuroseg.affinities.inference import make_repeatable
from neuroseg.networks.architectures import build_network, parameter_count
from neuroseg.networks.encoder import ENCODER, save_encoder
from neuroseg.training.data.unlabelled import Crops, open_unlabelled, perturbed_pair
from neuroseg.training.folder import prepare_folder
from neuroseg.training.learning.gradients import require_correct_gradients
from neuroseg.training.learning.loop import is_over, run_training
from neuroseg.training.learning.optimiser import build_optimiser, take_step
from neuroseg.training.learning.precision import predicted, warn_if_emulated
from neuroseg.training.learning.processes import ProcessGroup, local_device, process_group
from neuroseg.training.learning.records import load_checkpoint, save_checkpoint, use_as_many_threads
from neuroseg.training.pretraining_settings import PretrainingSettings
from neuroseg.training.reading import read_settings
from neuroseg.training.relative_paths import located
from neuroseg.training.settings import PerturbationSettings, Precision
from neuroseg.training.validation.dry_run import dry_run
from neuroseg.training.validation.duration import Clock

logger = logging.getLogger(__name__)
_VALIDATION_CROPS = 8
_HELD_OUT = 2  # the stream of validation's random numbers


@dataclass(frozen=True)
class Pretrained:
    """Where the encoder lies, and the last error on held-out crops (mean square of values in [0, 1])."""

    encoder: Path
    step: int
    error: float


class Restorations:
    """A sequence of (perturbed, clean) crops; item i is a function of the seed and i."""

    def __init__(self, crops: Crops, settings: PerturbationSettings, *, count: int, seed: int, start: int) -> None:
        self._crops, self._settings, self._count, self._seed, self._start = crops, settings, count, seed, start

    def __len__(self) -> int:
        return self._count - self._start

    def __getitem__(self, index: int) -> dict[str, NDArray[Any]]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        rng = np.random.default_rng([self._seed, self._start + index])
        pair = perturbed_pair(self._crops, self._settings, rng)
        return {"perturbed": pair["perturbed"], "clean": pair["clean"]}


class Restorer:
    """Holds what a checkpoint of pre-training saves: network, optimiser and step."""

    def __init__(self, settings: PretrainingSettings, folder: Path, device: torch.device, group: ProcessGroup) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.folder, self.device, self.group = settings, folder, device, group
        built = build_network(settings.network.architecture, _parameters(settings))
        network = group.with_shared_statistics(built, device)
        self.network = network.to(device=device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self._parallel = group.parallel(self.network, device)
        self.optimiser = build_optimiser(self.network, settings.optimiser)
        self.step = self.validated = 0
        self._seen: dict[str, torch.Tensor] = {}

    def save(self) -> None:
        """Write `checkpoint.pt` and the encoder so far."""
        state = {
            "step": self.step,
            "validated": self.validated,
            "processes": self.group.size,
            "threads": torch.get_num_threads(),
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        save_checkpoint(self.folder / "checkpoint.pt", state)
        network = self.settings.network
        save_encoder(self.folder, self.network, network.architecture, network.parameters)

    def load(self) -> None:
        """Continue from `checkpoint.pt`."""
        state = load_checkpoint(self.folder / "checkpoint.pt")
        self.group.require_size(state["processes"], self.folder)
        use_as_many_threads(state.get("threads"), self.device)
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.validated = int(state["step"]), int(state["validated"])

    def pictures(self) -> dict[str, torch.Tensor]:
        """Return the middle section of the last step's first crop, `(1, y, x)`: perturbed, restored, clean."""
        return {name: tensor[0, :, tensor.shape[2] // 2].float().cpu() for name, tensor in self._seen.items()}

    def update(self, batch: dict[str, torch.Tensor]) -> dict[str, float]:
        """Take one step; returns the loss. Raises NeurosegError when it or its gradient is not finite."""
        perturbed, clean = (batch[name].to(self.device, non_blocking=True) for name in ("perturbed", "clean"))
        found = restored(self._parallel, perturbed, self.settings.optimiser.precision)
        loss = functional.mse_loss(found, clean)
        self._seen = {"perturbed": perturbed, "restored": found.detach(), "clean": clean}
        take_step(loss, batch, self.network, self.optimiser, self.settings.optimiser, self.step, self.folder)
        self.step += 1
        return {"total": loss.item()}


def restored(network: nn.Module, perturbed: torch.Tensor, precision: Precision) -> torch.Tensor:
    """Return the clean crops that a network sees in perturbed ones, `(n, 1, z, y, x)` float32 in [0, 1]."""
    return torch.sigmoid(predicted(network, perturbed, precision).float())


def pretrain(
    configuration: Path, folder: Path, *, device: str = "auto", restart: bool = False, progress: bool = True
) -> Pretrained:
    """Pre-train to the last step, resuming what `folder` holds; returns where the encoder lies.

    Raises InputError for a wrong configuration, missing data or a CPU that computes it wrongly, and RunRefusedError
    when the folder holds a training of another configuration.
    """
    with process_group() as group:
        settings = read_settings(configuration, PretrainingSettings)
        chosen = choose_device(local_device(device))
        training, held_out = _crops(located(settings, configuration))
        make_repeatable(chosen)
        restorer = Restorer(settings, folder, chosen, group)
        if restart or not (folder / "checkpoint.pt").exists():
            _check_gradients(settings, chosen)
        if group.is_first:
            prepare_folder(folder, settings, restart)
        group.wait()
        logger.info("%s: %d parameters on %s", settings.name, parameter_count(restorer.network), chosen)
        warn_if_emulated(chosen, settings.optimiser.precision)
        if (folder / "checkpoint.pt").exists():
            restorer.load()
            if not is_over(restorer):
                _check_gradients(settings, chosen)  # perhaps another machine, with as many threads as before
        error = _Error(restorer, held_out)
        if not is_over(restorer):
            samples = _restorations(settings, training, restorer.step, group.size)
            run_training(restorer, samples, error, progress=progress)
        return Pretrained(folder / ENCODER, restorer.step, error(restorer.step)["error"])


def dry_run_pretraining(configuration: Path, folder: Path, *, device: str = "auto") -> dict[str, Any]:
    """Check a configuration and its data and take a few steps; returns what it would take. Writes nothing."""
    settings = read_settings(configuration, PretrainingSettings)
    training, held_out = _crops(located(settings, configuration))
    restorer = Restorer(settings, folder, choose_device(device), ProcessGroup())
    _check_gradients(settings, restorer.device)
    error = _Error(restorer, held_out)

    def judge(clock: Clock) -> dict[str, float]:
        began = clock()
        error(0)
        return {"crops": clock() - began}

    return dry_run(restorer, _restorations(settings, training, 0, 1), judge)


def _parameters(settings: PretrainingSettings) -> dict[str, Any]:
    """Return the parameters of the twin that restores: everything passes through its bottom."""
    return {**settings.network.parameters, "skips": False, "outputs": 1}


def _check_gradients(settings: PretrainingSettings, device: torch.device) -> None:
    optimiser = settings.optimiser
    require_correct_gradients(
        settings.network.architecture,
        _parameters(settings),
        batch=optimiser.batch,
        patch_voxels=optimiser.patch_voxels,
        device=device,
        precision=optimiser.precision,
    )


def _crops(settings: PretrainingSettings) -> tuple[Crops, Crops]:
    """Return where crops for training and for validation come from; raises InputError for missing data."""
    data, patch = settings.data, settings.optimiser.patch_voxels
    opened = [open_unlabelled(volumes, data.folders, patch) for volumes in (data.training, [data.validation])]
    training, held_out = (Crops(regions, patch, settings.orientations) for regions in opened)
    return training, held_out


def _restorations(settings: PretrainingSettings, crops: Crops, step: int, processes: int) -> Restorations:
    optimiser = settings.optimiser
    return Restorations(
        crops,
        settings.perturbations,
        count=optimiser.steps * optimiser.batch * processes,
        seed=settings.seed,
        start=step * optimiser.batch * processes,
    )


class _Error:
    """Validates a restorer on the same held-out crops each time."""

    def __init__(self, restorer: Restorer, crops: Crops) -> None:
        self._restorer, self._crops = restorer, crops

    @torch.no_grad()
    def __call__(self, step: int) -> dict[str, float]:
        restorer, errors = self._restorer, []
        restorer.network.eval()
        try:
            for number in range(_VALIDATION_CROPS):
                rng = np.random.default_rng([restorer.settings.seed, number, _HELD_OUT])
                pair = perturbed_pair(self._crops, restorer.settings.perturbations, rng)
                perturbed = torch.from_numpy(pair["perturbed"][None]).to(restorer.device)
                found = restored(restorer.network, perturbed, restorer.settings.optimiser.precision)
                errors.append(functional.mse_loss(found.cpu(), torch.from_numpy(pair["clean"][None])).item())
        finally:
            restorer.network.train()
        return {"error": float(np.mean(errors))}

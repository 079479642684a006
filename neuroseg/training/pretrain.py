"""The command `pretrain`: volumes without labels -> an encoder as initial weights for training.

A network without skip connections learns to restore a clean crop from a perturbed copy (Huang et al., IEEE TMI 2022).
Only its encoder is kept.
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
from neuroseg.training.judging.dry_run import dry_run
from neuroseg.training.judging.duration import Clock
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

logger = logging.getLogger(__name__)
_VALIDATION_CROPS = 8
_VALIDATION_STREAM = 2  # random numbers for validation crops


@dataclass(frozen=True)
class Pretrained:
    """Path of the encoder, and its last error on validation crops: mean squared error of values in [0, 1]."""

    encoder: Path
    step: int
    error: float


class Restorations:
    """A sequence of (perturbed, clean) crops. Item i depends only on the seed and i."""

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
    """State of a pre-training: network, optimiser and step, as saved in a checkpoint."""

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
        """Write `checkpoint.pt` and the current encoder."""
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
        """Return the middle section `(1, y, x)` of the first crop of the last step: perturbed, restored and clean."""
        return {name: tensor[0, :, tensor.shape[2] // 2].float().cpu() for name, tensor in self._seen.items()}

    def update(self, batch: dict[str, torch.Tensor]) -> dict[str, float]:
        """Take one step and return the loss. Raises NeurosegError if the loss or its gradient is not finite."""
        perturbed, clean = (batch[name].to(self.device, non_blocking=True) for name in ("perturbed", "clean"))
        found = restored(self._parallel, perturbed, self.settings.optimiser.precision)
        loss = functional.mse_loss(found, clean)
        self._seen = {"perturbed": perturbed, "restored": found.detach(), "clean": clean}
        take_step(loss, batch, self.network, self.optimiser, self.settings.optimiser, self.step, self.folder)
        self.step += 1
        return {"total": loss.item()}


def restored(network: nn.Module, perturbed: torch.Tensor, precision: Precision) -> torch.Tensor:
    """Return the crops restored from perturbed ones, `(n, 1, z, y, x)` float32 in [0, 1]."""
    return torch.sigmoid(predicted(network, perturbed, precision).float())


def pretrain(
    configuration: Path, folder: Path, *, device: str = "auto", restart: bool = False, progress: bool = True
) -> Pretrained:
    """Pre-train to the last step and return the path of the encoder. Resumes an unfinished training in `folder`.

    Raises InputError for a wrong configuration, missing data, or a CPU that computes wrong gradients. Raises
    RunRefusedError if the folder contains a training of another configuration.
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
                _check_gradients(settings, chosen)  # the machine and the number of threads can differ
        error = _Error(restorer, held_out)
        if not is_over(restorer):
            samples = _restorations(settings, training, restorer.step, group.size)
            run_training(restorer, samples, error, progress=progress)
        return Pretrained(folder / ENCODER, restorer.step, error(restorer.step)["error"])


def dry_run_pretraining(configuration: Path, folder: Path, *, device: str = "auto") -> dict[str, Any]:
    """Check a configuration and its data, take a few steps, and return expected time and memory. Write nothing."""
    settings = read_settings(configuration, PretrainingSettings)
    training, held_out = _crops(located(settings, configuration))
    restorer = Restorer(settings, folder, choose_device(device), ProcessGroup())
    _check_gradients(settings, restorer.device)
    error = _Error(restorer, held_out)

    def time_validation(clock: Clock) -> dict[str, float]:
        began = clock()
        error(0)
        return {"crops": clock() - began}

    return dry_run(restorer, _restorations(settings, training, 0, 1), time_validation)


def _parameters(settings: PretrainingSettings) -> dict[str, Any]:
    """Return the parameters of the restoring network, which has no skip connections and one output."""
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
    """Return the sources of crops for training and for validation. Raises InputError for missing data."""
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
    """The error of a restorer on validation crops, which are the same at every step."""

    def __init__(self, restorer: Restorer, crops: Crops) -> None:
        self._restorer, self._crops = restorer, crops

    @torch.no_grad()
    def __call__(self, step: int) -> dict[str, float]:
        restorer, errors = self._restorer, []
        restorer.network.eval()
        try:
            for number in range(_VALIDATION_CROPS):
                rng = np.random.default_rng([restorer.settings.seed, number, _VALIDATION_STREAM])
                pair = perturbed_pair(self._crops, restorer.settings.perturbations, rng)
                perturbed = torch.from_numpy(pair["perturbed"][None]).to(restorer.device)
                found = restored(restorer.network, perturbed, restorer.settings.optimiser.precision)
                errors.append(functional.mse_loss(found.cpu(), torch.from_numpy(pair["clean"][None])).item())
        finally:
            restorer.network.train()
        return {"error": float(np.mean(errors))}

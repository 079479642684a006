"""A training that is checked before it is begun: its data opened, a few steps taken, their time and memory told."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from funlib.geometry import Coordinate, Roi
from torch.utils.data import default_collate

from neuroseg.networks.architectures import parameter_count
from neuroseg.networks.context import receptive_context
from neuroseg.training.descriptors import CHANNELS
from neuroseg.training.loop import Learner
from neuroseg.training.volumes import OpenedVolume

_STEPS = 2


def rehearse(learner: Learner, samples: Any, *, unread_bytes: int = 0) -> dict[str, Any]:
    """Return what a training would be: parameters, context, steps, seconds a step and in all, memory in MiB.

    The weights are changed by it: the learner is of no further use. The time is that of making samples in one process,
    or of the steps, whichever is longer; validations come on top. `unread_bytes` of data that a training holds, and the
    rehearsal does not, are added to its memory; a GPU's memory is told apart.
    """
    settings, network = learner.settings, learner.settings.network
    built = learner.network
    batch_size = settings.optimiser.batch
    drawn = [_timed(lambda: default_collate([samples[n] for n in range(batch_size)])) for _ in range(_STEPS)]
    batch = drawn[-1][0]
    # The dearest step is what a machine must be able to take.
    learner.step = _dearest_step(settings)
    learner.update(batch)
    taken = [_timed(lambda: learner.update(batch))[1] for _ in range(_STEPS)]
    making = min(seconds for _, seconds in drawn) / max(settings.loader_workers, 1)
    step = max(making, min(taken)) if settings.loader_workers else making + min(taken)
    return {
        "name": settings.name,
        "architecture": network.architecture,
        "parameters": parameter_count(built),
        "receptive_context_voxels": receptive_context(built.reach),
        "patch_voxels": settings.optimiser.patch_voxels,
        "batch": batch_size,
        "steps": settings.optimiser.steps,
        "seconds_per_step": round(step, 3),
        "seconds_per_batch_of_samples": round(making, 3),
        "hours": round(step * settings.optimiser.steps / 3600, 2),
        "memory_mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10) + (unread_bytes >> 20),
        "device_memory_mib": _device_memory_mib(learner.device),
    }


def _dearest_step(settings: Any) -> int:
    """Return a step that learns from everything there is to learn from."""
    consistency = getattr(settings, "consistency", None)
    return consistency.begin_step if consistency is not None else 0


def small_part(opened: OpenedVolume, patch: Sequence[int]) -> OpenedVolume:
    """Return a volume with a region of at most twice a patch and no surroundings: enough to rehearse on."""
    widest = Coordinate([2 * max(patch)] * 3)
    return replace(opened, region=Roi(opened.region.begin, widest).intersect(opened.region), surround=(0, 0, 0))


def held_bytes(opened: OpenedVolume, descriptors: bool) -> int:
    """Return what a labelled volume takes in memory: raw, labels of 32 bits, ten descriptors of 16 bits."""
    return int(opened.surroundings.size) * (1 + 4 + (2 * CHANNELS if descriptors else 0))


def described(found: dict[str, Any], folder: Path) -> str:
    """Return a rehearsal as text."""
    context, patch = (" x ".join(map(str, found[key])) for key in ("receptive_context_voxels", "patch_voxels"))
    on_device = f", {found['device_memory_mib']} MiB of the GPU" if found["device_memory_mib"] is not None else ""
    return (
        f"{found['name']}: {found['architecture']}, {found['parameters']:,} parameters; each voxel sees {context} "
        f"voxels on each side\n"
        f"    {found['steps']} steps of {found['batch']} patches of {patch} voxels: {found['seconds_per_step']:g} s a "
        f"step, about {found['hours']:g} hours without validations, {found['memory_mib']} MiB{on_device}\n"
        f"    configuration and data are fine; nothing was written to {folder}"
    )


def _timed(work: Any) -> tuple[Any, float]:
    began = time.monotonic()
    return work(), time.monotonic() - began


def _device_memory_mib(device: torch.device) -> int | None:
    return torch.cuda.max_memory_allocated(device) >> 20 if device.type == "cuda" else None

"""A training that is checked before it is begun: its data opened, a few steps taken, their time and memory told."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from funlib.geometry import Coordinate, Roi
from torch.utils.data import default_collate

from neuroseg.networks.architectures import parameter_count
from neuroseg.networks.context import receptive_context
from neuroseg.training.data.descriptors import CHANNELS
from neuroseg.training.data.labelled import OpenedVolume
from neuroseg.training.learning.loop import Learner
from neuroseg.training.validation.duration import Clock, validation_count

_STEPS = 2
_MINUTE, _HOUR = 60, 3600


def dry_run(
    learner: Learner,
    samples: Any,
    judge: Callable[[Clock], Mapping[str, float]],
    *,
    unread_bytes: int = 0,
    clock: Clock = time.monotonic,
) -> dict[str, Any]:
    """Return what a training would be: parameters, context, steps, their time and memory, and its validations' time.

    The weights are changed by it: the learner is of no further use. The time of a step is that of making samples in one
    process, or of the step, whichever is longer; `judge` returns the seconds of the parts of one validation.
    `unread_bytes` of data that a training holds, and the rehearsal does not, are added to its memory; a GPU's memory is
    told apart.
    """
    settings, network = learner.settings, learner.settings.network
    optimiser = settings.optimiser
    built = learner.network
    drawn = [
        _timed(lambda: default_collate([samples[n] for n in range(optimiser.batch)]), clock) for _ in range(_STEPS)
    ]
    batch = drawn[-1][0]
    # The dearest step is what a machine must be able to take.
    learner.step = _dearest_step(settings)
    learner.update(batch)
    taken = [_timed(lambda: learner.update(batch), clock)[1] for _ in range(_STEPS)]
    making = min(seconds for _, seconds in drawn) / max(settings.loader_workers, 1)
    step = max(making, min(taken)) if settings.loader_workers else making + min(taken)
    parts = judge(clock)
    return {
        "name": settings.name,
        "architecture": network.architecture,
        "parameters": parameter_count(built),
        "receptive_context_voxels": receptive_context(built.reach),
        "patch_voxels": optimiser.patch_voxels,
        "batch": optimiser.batch,
        "steps": optimiser.steps,
        "seconds_per_step": round(step, 3),
        "seconds_per_batch_of_samples": round(making, 3),
        **_times(step, optimiser.steps, parts, validation_count(optimiser.steps, settings.validation.every_steps)),
        "memory_mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10) + (unread_bytes >> 20),
        "device_memory_mib": _device_memory_mib(learner.device),
    }


def _times(step: float, steps: int, parts: Mapping[str, float], count: int) -> dict[str, Any]:
    """Return the hours of all steps, of all validations, and of both."""
    one = sum(parts.values())
    return {
        "validations": count,
        "seconds_per_validation": round(one, 3),
        "validation_parts_seconds": {name: round(seconds, 3) for name, seconds in parts.items()},
        "training_hours": round(step * steps / 3600, 4),
        "validation_hours": round(one * count / 3600, 4),
        "hours": round((step * steps + one * count) / 3600, 4),
    }


def _dearest_step(settings: Any) -> int:
    """Return a step that learns from everything there is to learn from."""
    consistency = getattr(settings, "consistency", None)
    return consistency.begin_step if consistency is not None else 0


def small_part(opened: OpenedVolume, patch: Sequence[int]) -> OpenedVolume:
    """Return a volume with a region of at most twice a patch and no surroundings: enough to dry_run on."""
    widest = Coordinate([2 * max(patch)] * 3)
    return replace(opened, region=Roi(opened.region.begin, widest).intersect(opened.region), surround=(0, 0, 0))


def held_bytes(opened: OpenedVolume, descriptors: bool) -> int:
    """Return what a labelled volume takes in memory: raw, labels of 32 bits, ten descriptors of 16 bits."""
    return int(opened.surroundings.size) * (1 + 4 + (2 * CHANNELS if descriptors else 0))


def as_text(found: dict[str, Any], folder: Path) -> str:
    """Return a rehearsal as text."""
    context, patch = (" x ".join(map(str, found[key])) for key in ("receptive_context_voxels", "patch_voxels"))
    on_device = f", {found['device_memory_mib']} MiB of the GPU" if found["device_memory_mib"] is not None else ""
    training, judging, whole = (_duration(3600 * found[f"{key}hours"]) for key in ("training_", "validation_", ""))
    parts = ", ".join(
        f"{name} {_duration(seconds)}" for name, seconds in found["validation_parts_seconds"].items() if seconds > 0
    )
    return (
        f"{found['name']}: {found['architecture']}, {found['parameters']:,} parameters; each voxel sees {context} "
        f"voxels on each side\n"
        f"    training:   {training} ({found['steps']} steps of {found['batch']} patches of {patch} voxels, "
        f"{found['seconds_per_step']:g} s a step)\n"
        f"    validation: {judging} ({found['validations']} times {_duration(found['seconds_per_validation'])}: "
        f"{parts})\n"
        f"    total:      {whole}; {found['memory_mib']} MiB{on_device}\n"
        f"    configuration and data are fine; nothing was written to {folder}"
    )


def _duration(seconds: float) -> str:
    """Return seconds as text with two digits that matter."""
    if seconds < _MINUTE:
        return f"{seconds:.2g} s"
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.1f} min"
    return f"{seconds / _HOUR:.1f} hours"


def _timed(work: Any, clock: Clock) -> tuple[Any, float]:
    began = clock()
    return work(), clock() - began


def _device_memory_mib(device: torch.device) -> int | None:
    return torch.cuda.max_memory_allocated(device) >> 20 if device.type == "cuda" else None

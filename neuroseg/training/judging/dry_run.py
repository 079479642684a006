"""Dry run of a training: open its data, take a few steps, and report the expected time and memory."""

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
from neuroseg.training.judging.duration import Clock, validation_count
from neuroseg.training.learning.loop import Learner

_STEPS = 2
_MINUTE, _HOUR = 60, 3600


def dry_run(
    learner: Learner,
    samples: Any,
    time_validation: Callable[[Clock], Mapping[str, float]],
    *,
    unread_bytes: int = 0,
    clock: Clock = time.monotonic,
) -> dict[str, Any]:
    """Return size, context, steps, expected time and memory of a training. Times include validations.

    Changes the weights of the learner; do not train it afterwards. The time of a step is the longer one of making
    samples (divided by the loader workers) and of the update. Without loader workers it is their sum. `time_validation`
    returns the seconds of each part of one validation. `unread_bytes`: data that only the training reads, added to the
    memory. GPU memory is reported separately.
    """
    settings, network = learner.settings, learner.settings.network
    optimiser = settings.optimiser
    built = learner.network
    drawn = [
        _timed(lambda: default_collate([samples[n] for n in range(optimiser.batch)]), clock) for _ in range(_STEPS)
    ]
    batch = drawn[-1][0]
    # Time the most expensive step.
    learner.step = _costliest_step(settings)
    learner.update(batch)
    taken = [_timed(lambda: learner.update(batch), clock)[1] for _ in range(_STEPS)]
    making = min(seconds for _, seconds in drawn) / max(settings.loader_workers, 1)
    step = max(making, min(taken)) if settings.loader_workers else making + min(taken)
    parts = time_validation(clock)
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
    """Return the hours of all steps, of all validations, and of both together."""
    one = sum(parts.values())
    return {
        "validations": count,
        "seconds_per_validation": round(one, 3),
        "validation_parts_seconds": {name: round(seconds, 3) for name, seconds in parts.items()},
        "training_hours": round(step * steps / 3600, 4),
        "validation_hours": round(one * count / 3600, 4),
        "hours": round((step * steps + one * count) / 3600, 4),
    }


def _costliest_step(settings: Any) -> int:
    """Return a step that uses all losses."""
    consistency = getattr(settings, "consistency", None)
    return consistency.begin_step if consistency is not None else 0


def small_part(opened: OpenedVolume, patch: Sequence[int]) -> OpenedVolume:
    """Return a volume with a region of at most twice a patch and no surroundings, for a dry run."""
    widest = Coordinate([2 * max(patch)] * 3)
    return replace(opened, region=Roi(opened.region.begin, widest).intersect(opened.region), surround=(0, 0, 0))


def held_bytes(opened: OpenedVolume, descriptors: bool) -> int:
    """Return the bytes of a labelled volume in memory: 8-bit raw, 32-bit labels and ten 16-bit descriptors."""
    return int(opened.surroundings.size) * (1 + 4 + (2 * CHANNELS if descriptors else 0))


def as_text(found: dict[str, Any], folder: Path) -> str:
    """Return the result of a dry run as text. The total time comes first and includes validations."""
    context, patch = (" x ".join(map(str, found[key])) for key in ("receptive_context_voxels", "patch_voxels"))
    on_device = f", {found['device_memory_mib']} MiB GPU memory" if found["device_memory_mib"] is not None else ""
    training, validation, total = (_duration(3600 * found[f"{key}hours"]) for key in ("training_", "validation_", ""))
    parts = ", ".join(
        f"{name} {_duration(seconds)}" for name, seconds in found["validation_parts_seconds"].items() if seconds > 0
    )
    return (
        f"{found['name']}: the configuration and the data are valid\n"
        f"    total:      {total}, validation included; {found['memory_mib']} MiB memory{on_device}\n"
        f"    training:   {training} ({found['steps']} steps of {found['batch']} patches of {patch} voxels, "
        f"{found['seconds_per_step']:g} s per step)\n"
        f"    validation: {validation} ({found['validations']} times {_duration(found['seconds_per_validation'])}: "
        f"{parts})\n"
        f"    network:    {found['architecture']}, {found['parameters']:,} parameters, context of {context} voxels on "
        f"each side\n"
        f"    nothing was written to {folder}"
    )


def _duration(seconds: float) -> str:
    """Return a duration as text, in s, min or hours."""
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

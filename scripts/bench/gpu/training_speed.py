"""Training steps of the superhuman network on synthetic neuropil, by the training loop of the product.

The configuration is that of the published training on SNEMI3D, without consistency learning.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from report import Row
from subjects import TISSUE, Bench

from neuroseg.affinities.inference import make_repeatable
from neuroseg.training.folder import prepare_folder
from neuroseg.training.learning.loop import run_training
from neuroseg.training.learning.processes import ProcessGroup
from neuroseg.training.learning.trainer import Trainer
from neuroseg.training.train import open_training, samples_of

PART = "training"
_BASE = "seg_snemi3d_d5_u200"
_GPU_SECONDS, _CPU_SECONDS = 60.0, 5.0
_WARM_UP_STEPS = 3
# A narrow network and small patches: a CPU only shows that the steps work.
_ON_CPU: dict[str, Any] = {
    "loader_workers": 1,
    "network": {"parameters": {"widths": [2, 2, 2, 2, 2]}},
    "optimiser": {"batch": 1, "patch_voxels": [4, 32, 32], "precision": "float32"},
    "validation": {"tile_voxels": [4, 16, 16], "context_voxels": [0, 8, 8]},
}


class _TimeIsUpError(Exception):
    """The training took as long as it may."""


class _TimedTrainer(Trainer):
    """A trainer that records when each update begins and ends, and stops after some seconds."""

    def __init__(self, *given: Any, seconds: float) -> None:
        super().__init__(*given)
        self.updates: list[tuple[float, float]] = []
        self._seconds = seconds

    def update(self, batch: dict[str, torch.Tensor]) -> dict[str, float]:
        """Take one step. Raises _TimeIsUpError if it was the last one."""
        began = time.monotonic()
        losses = super().update(batch)  # waits for the device, because the losses are numbers
        self.updates.append((began, time.monotonic()))
        if self.updates[-1][1] - self.updates[0][0] > self._seconds and len(self.updates) > _WARM_UP_STEPS + 1:
            raise _TimeIsUpError
        return losses


def measure(bench: Bench, seconds: float, rows: Sequence[Row]) -> list[Row]:
    """Return the rates of steps and patches, and the share of the time between updates: waiting for the loader."""
    deadline = time.monotonic() + seconds
    configuration = _configuration(bench)
    opened = open_training(configuration)
    settings = opened.settings
    make_repeatable(bench.device)
    folder = bench.folder / "training"
    prepare_folder(folder, settings, True)
    samples = samples_of(opened, 0, 1)[1]
    most = _GPU_SECONDS if bench.device.type == "cuda" else _CPU_SECONDS
    trainer = _TimedTrainer(
        settings, folder, bench.device, ProcessGroup(), seconds=min(most, deadline - time.monotonic())
    )
    with contextlib.suppress(_TimeIsUpError):
        run_training(trainer, samples, lambda step: {}, progress=False)
    return [Row(PART, "superhuman", {**speed(trainer.updates, settings.optimiser.batch), **_described(settings)})]


def speed(updates: Sequence[tuple[float, float]], batch: int) -> dict[str, float | None]:
    """Return the speed after the first steps, from begin and end of each update."""
    counted = updates[_WARM_UP_STEPS:]
    # From the end of the last warm-up step, so that each step includes the time before it.
    elapsed = counted[-1][1] - updates[_WARM_UP_STEPS - 1][1]
    updating = [end - begin for begin, end in counted]
    return {
        "steps_per_s": round(len(counted) / elapsed, 4),
        "patches_per_s": round(batch * len(counted) / elapsed, 4),
        "share_waiting_for_loader": round(1 - sum(updating) / elapsed, 4),
        "update_s": round(statistics.median(updating), 5),
        "steps": len(counted),
        "seconds": round(elapsed, 3),
    }


def _described(settings: Any) -> dict[str, float | None]:
    optimiser = settings.optimiser
    patch = dict(zip(("patch_z", "patch_y", "patch_x"), optimiser.patch_voxels, strict=True))
    return {"batch": optimiser.batch, "loader_workers": settings.loader_workers, **patch}


def _configuration(bench: Bench) -> Path:
    """Write the configuration: that of the product with the volume of the benchmark, and a smaller one on a CPU."""
    raw, labels = map(str, bench.tissue)
    halves = (f"0:{TISSUE[0] // 2},:,:", f"{TISSUE[0] // 2}:{TISSUE[0]},:,:")
    training, validation = ({"raw": raw, "labels": labels, "region": half} for half in halves)
    content: dict[str, Any] = {
        "extends": _BASE,
        "name": "benchmark",
        "data": {"training": [training], "unlabelled": [], "validation": validation, "test": []},
        "consistency": None,
        "network": {"encoder": None},
        "optimiser": {},
        "validation": {},
    }
    if bench.device.type == "cpu":
        for key, value in _ON_CPU.items():
            content[key] = {**content[key], **value} if isinstance(value, dict) else value
    # No validation: the loop is stopped long before.
    content["validation"]["every_steps"] = 10**9
    content["optimiser"]["steps"] = 10**9
    path = bench.folder / "training.yaml"
    path.write_text(yaml.safe_dump(content))
    return path

"""The bare network: forward passes on windows that are already on the device."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch
from gpu_machine import peak_tflops, synchronise
from report import Row
from subjects import Bench
from torch.utils.flop_counter import FlopCounterMode

from neuroseg.affinities.inference import Predictor
from neuroseg.affinities.predictors import open_predictor

PART = "bare network"
_WARM_UP, _MOST_SECONDS = 3, 10.0


def measure(bench: Bench, seconds: float, rows: Sequence[Row], *, name: str, blend: str) -> list[Row]:
    """Return the rate of a network in kept voxels and in TFLOP/s.

    A window of either blend counts as the voxels of its output tile: there is one window per tile. FLOPs are those of
    the forward pass as it runs, with the channels that are padded on a GPU.
    """
    device = bench.device
    predictor = open_predictor(bench.bundle(name), device, blend)
    settings = predictor.settings
    windows = torch.randint(0, 256, (settings.batch, 1, *settings.window), dtype=torch.uint8).to(device)
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)  # as in prediction
    try:
        _forget_peak_memory(device)
        with FlopCounterMode(display=False) as counter:
            predictor.outputs(windows)
        took = _seconds_per_pass(predictor, windows, device, min(seconds / 2, _MOST_SECONDS))
    finally:
        torch.set_num_threads(threads)
    tflops, peak = counter.get_total_flops() / took / 1e12, peak_tflops(device)
    kept = settings.batch * math.prod(settings.output)
    return [
        Row(
            PART,
            f"{name}, {blend}",
            {
                "mvoxel_per_s": round(kept / took / 1e6, 5),
                "tflop_per_s": round(tflops, 4),
                "share_of_peak": round(tflops / peak, 4) if peak else None,
                "ms_per_pass": round(1e3 * took, 3),
                "gflop_per_pass": round(counter.get_total_flops() / 1e9, 3),
                "windows_per_pass": settings.batch,
                "kept_voxels_per_pass": kept,
                "voxels_per_pass": windows.numel(),
                "device_memory_mib": _peak_memory_mib(device),
            },
        )
    ]


def rate_of(rows: Sequence[Row], name: str, blend: str) -> float | None:
    """Return the measured rate of a network in Mvoxel/s. None if its measurement failed."""
    found = [row for row in rows if (row.part, row.what) == (PART, f"{name}, {blend}") and not row.error]
    return found[0].values["mvoxel_per_s"] if found else None


def _seconds_per_pass(predictor: Predictor, windows: torch.Tensor, device: torch.device, seconds: float) -> float:
    """Return the time of a forward pass. All passes are queued before the device is waited for."""
    took = math.inf
    for _ in range(_WARM_UP if device.type == "cuda" else 1):
        took = min(took, _timed(predictor, windows, device, 1))
    return _timed(predictor, windows, device, max(1, int(seconds / took)))


def _timed(predictor: Predictor, windows: torch.Tensor, device: torch.device, passes: int) -> float:
    synchronise(device)
    began = time.perf_counter()
    for _ in range(passes):
        predictor.outputs(windows)
    synchronise(device)
    return (time.perf_counter() - began) / passes


def _forget_peak_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak_memory_mib(device: torch.device) -> int | None:
    return torch.cuda.max_memory_allocated(device) >> 20 if device.type == "cuda" else None

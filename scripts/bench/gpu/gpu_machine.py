"""The machine: GPU, driver, libraries, cores. Peak of a GPU, and its use while something runs."""

from __future__ import annotations

import contextlib
import gc
import os
import platform
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from neuroseg import __version__
from neuroseg.affinities.device import gpu_kind, precision_of

# TFLOP/s of dense bfloat16 matrices with float32 sums. Source: NVIDIA's data sheets of the GPUs. Where a data sheet
# gives only the rate with sparsity, which is twice as high, this is half of it: H100 SXM and H200 1,979, H100 PCIe
# 1,513, H100 NVL and H200 NVL 1,671.
DENSE_BF16_TFLOPS = {
    "NVIDIA H200": 989.0,
    "NVIDIA H200 NVL": 835.5,
    "NVIDIA H100": 989.0,
    "NVIDIA H100 NVL": 835.5,
    "NVIDIA H100 PCIe": 756.5,
    "NVIDIA A100-SXM4": 312.0,
    "NVIDIA A100-PCIE": 312.0,
    "NVIDIA A100 PCIe": 312.0,
    "NVIDIA A30": 165.0,
    "NVIDIA A10": 125.0,
}
_SAMPLE_EVERY_S, _TIMEOUT_S = 0.25, 10.0

Sample = tuple[float, float]
"""Time (time.time()) and utilisation of the GPU in percent."""


def description(device: torch.device) -> dict[str, Any]:
    """Return what is needed to compare results of several machines. Entries that only a GPU has are null on a CPU."""
    is_gpu = device.type == "cuda"
    return {
        "gpu": torch.cuda.get_device_properties(device).name if is_gpu else None,
        "gpu_memory_gib": round(torch.cuda.get_device_properties(device).total_memory / 2**30, 1) if is_gpu else None,
        "multiprocessors": torch.cuda.get_device_properties(device).multi_processor_count if is_gpu else None,
        "peak_tflops": peak_tflops(device),
        "driver": _queried(device, "driver_version"),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if is_gpu else None,
        "torch": torch.__version__,
        "neuroseg": __version__,
        "precision": str(precision_of(device)).removeprefix("torch."),
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
    }


def peak_tflops(device: torch.device) -> float | None:
    """Return the dense bfloat16 peak of a GPU. None if it is unknown, for other precisions, and for a CPU."""
    if device.type != "cuda" or precision_of(device) != torch.bfloat16:
        return None
    return DENSE_BF16_TFLOPS.get(gpu_kind(device)["gpu"])


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has computed everything. Do nothing for a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def free_memory(device: torch.device) -> None:
    """Free the memory of a GPU that this process only keeps. Another process may need it."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


@contextlib.contextmanager
def sampled_utilisation(device: torch.device) -> Iterator[list[Sample]]:
    """Yield a list that receives the utilisation of a GPU in a thread. It stays empty for a CPU."""
    samples: list[Sample] = []
    over = threading.Event()

    def sample() -> None:
        while not over.wait(_SAMPLE_EVERY_S):
            with contextlib.suppress(TypeError, ValueError):  # nvidia-smi gives no number, for example with MIG
                samples.append((time.time(), float(_queried(device, "utilization.gpu"))))  # type: ignore[arg-type]

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()


def mean_between(samples: Sequence[Sample], begin: float, end: float) -> float | None:
    """Return the mean utilisation in percent between two times. None without samples."""
    found = [percent for at, percent in samples if begin <= at <= end]
    return round(sum(found) / len(found), 1) if found else None


def _queried(device: torch.device, name: str) -> str | None:
    """Return a value of a GPU from nvidia-smi. None for a CPU, or if nvidia-smi fails."""
    if device.type != "cuda":
        return None
    # CUDA_VISIBLE_DEVICES changes the numbers of torch, but not those of nvidia-smi.
    gpu = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    line = ["nvidia-smi", f"--query-gpu={name}", "--format=csv,noheader,nounits", f"--id={gpu}"]
    try:
        done = subprocess.run(line, check=True, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()

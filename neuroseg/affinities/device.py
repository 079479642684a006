"""The device for prediction: find it, and record the properties that determine the bytes of a forward pass."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path

import torch

from neuroseg.errors import InputError, NeurosegError

# The memory size in names such as "NVIDIA H100 80GB HBM3" or "NVIDIA A100-SXM4-40GB". It does not affect the bytes.
_MEMORY = re.compile(r"[ -]\d+ ?GB( HBM\w*)?$")


def choose_device(name: str) -> torch.device:
    """Return the device named `auto`, `cpu`, `cuda` or `cuda:N`. Raises InputError if this machine does not have it."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"unknown device {name!r} (valid: auto, cpu, cuda, cuda:N)") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise InputError(
            f"device {name} does not exist: this machine has {count} CUDA device{'' if count == 1 else 's'}"
        )
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device {name!r} is not supported (valid: auto, cpu, cuda, cuda:N)")
    return device


def decoding_threads(device: torch.device) -> int:
    """Return the number of threads that decode raw for a device: the cores of this machine for each of its GPUs."""
    if device.type != "cuda":
        return 1  # the other cores predict
    return max(1, len(os.sched_getaffinity(0)) // torch.cuda.device_count())


def gpu_kind(device: torch.device) -> dict[str, str]:
    """Return the properties of a GPU and its libraries that choose the kernels. Initialises CUDA.

    They are the name without memory size, compute capability, number of multiprocessors and version of cuDNN. GPUs of
    one kind use the same kernels. GPUs of another kind may sum in another order and give different bytes.
    """
    found = torch.cuda.get_device_properties(device)
    return {
        "gpu": _MEMORY.sub("", found.name),
        "compute_capability": f"{found.major}.{found.minor}",
        "multiprocessors": str(found.multi_processor_count),
        "cudnn": str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]
    }


def precision_of(device: torch.device) -> torch.dtype:
    """Return bfloat16 if the hardware multiplies it, otherwise float16 on GPUs and float32 on CPUs."""
    if device.type == "cuda":
        # Since Ampere. torch.cuda.is_bf16_supported asks about the current device only.
        has_bfloat16 = bool(torch.version.hip) or torch.cuda.get_device_properties(device).major >= 8
        return torch.bfloat16 if has_bfloat16 else torch.float16
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return torch.float32
    return torch.bfloat16 if "amx_bf16" in flags or "avx512_bf16" in flags else torch.float32


def name_of(precision: torch.dtype) -> str:
    """Return the name of a precision, such as `bfloat16`."""
    return str(precision).removeprefix("torch.")


def device_identity(device: torch.device) -> dict[str, str]:
    """Return the properties that determine the bytes of a forward pass, as far as a head knows them.

    Workers add the kind of GPU, see `gpu_kind`. On a cluster, only they know it.
    """
    if device.type == "cuda":
        return gpu_identity(name_of(precision_of(device)))
    return _identity("cpu", torch.backends.cpu.get_cpu_capability(), name_of(precision_of(device)))


def gpu_identity(precision: str) -> dict[str, str]:
    """Return the identity of a GPU that predicts in this precision."""
    return _identity("cuda", "-", precision)


def _identity(kind: str, cpu_capability: str, precision: str) -> dict[str, str]:
    return {
        "device_type": kind,
        "cpu_capability": cpu_capability,
        "precision": precision,
        "torch": torch.__version__,
    }


def require_device(found: Mapping[str, str], required: Mapping[str, str], record: Path) -> None:
    """Raise NeurosegError if this machine would give different bytes than other machines of the run.

    `found` has each property of this machine, `required` those in the file `record`. Others are not compared.
    """
    differences = [
        f"{key} {found[key]}, expected {required[key]}"
        for key in found
        if key in required and found[key] != required[key]
    ]
    if not differences:
        return
    raise NeurosegError(
        f"{platform.node()} would give different affinities than the other machines of this run: "
        f"{'; '.join(differences)} (from {record})",
        hint="use one installation of torch and machines of one kind, for example with a partition or a constraint, or "
        "predict again with --restart affinities",
    )

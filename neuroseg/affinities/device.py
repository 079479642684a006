"""The device for prediction: find it, and record the properties that determine the bytes of a forward pass."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path

import torch

from neuroseg.errors import InputError, NeurosegError

# Precision required on GPUs of other machines. A GPU without it would give different bytes.
_REMOTE_PRECISION = "bfloat16"
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


def own_gpus(device: str) -> list[str]:
    """Return the GPUs to share among the workers of this machine, as CUDA_VISIBLE_DEVICES names them.

    Empty unless `device` is `cuda`. Omit GPUs of another kind than the first, which could give different bytes.
    """
    if device != "cuda":
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    names = named.split(",")[:count] if named else [str(number) for number in range(count)]
    kinds = [gpu_kind(torch.device("cuda", number)) for number in range(len(names))]
    return [name for name, kind in zip(names, kinds, strict=True) if kind == kinds[0]]


def decoding_threads(device: torch.device) -> int:
    """Return the number of threads that decode raw for a device: the cores of this machine for each of its GPUs."""
    if device.type != "cuda":
        return 1  # the other cores predict
    return max(1, len(os.sched_getaffinity(0)) // torch.cuda.device_count())


def gpu_kind(device: torch.device) -> dict[str, str]:
    """Return the kind of a GPU: name without memory size, compute capability and number of multiprocessors.

    GPUs of one kind use the same kernels. GPUs of another kind may sum in another order and give different bytes.
    """
    found = torch.cuda.get_device_properties(device)
    return {
        "gpu": _MEMORY.sub("", found.name),
        "compute_capability": f"{found.major}.{found.minor}",
        "multiprocessors": str(found.multi_processor_count),
    }


def require_kind(found: Mapping[str, str], recorded: Mapping[str, str], record: Path) -> None:
    """Raise NeurosegError if the GPU of this machine is of another kind than the first GPU of the run."""
    if found != recorded:
        raise NeurosegError(
            f"{platform.node()} has another kind of GPU than the first worker of this run, which would give different "
            f"affinities: {_described(found)}, expected {_described(recorded)} (from {record})",
            hint="request GPUs of one kind, for example with a partition or a constraint, or predict again with "
            "--restart affinities",
        )


def _described(kind: Mapping[str, str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in kind.items())


def precision_of(device: torch.device) -> torch.dtype:
    """Return bfloat16 if the hardware multiplies it, otherwise float16 on GPUs and float32 on CPUs."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return torch.float32
    return torch.bfloat16 if "amx_bf16" in flags or "avx512_bf16" in flags else torch.float32


def remote_device(name: str) -> tuple[str, dict[str, str]]:
    """Return name and required identity of the device on the machines that will predict.

    A CPU must equal that of this machine, and a GPU must support bfloat16. A worker on another device fails, see
    `require_device`. The first worker records the kind of GPU that all others must have. Raises InputError for an
    invalid name.
    """
    if name in ("auto", "cpu"):
        return "cpu", device_identity(torch.device("cpu"))
    if name.split(":")[0] != "cuda":
        raise InputError(f"device {name!r} is not supported (valid: auto, cpu, cuda, cuda:N)")
    known = {"device_type": "cuda", "cpu_capability": "-", "torch": torch.__version__}
    return name, {**known, "precision": _REMOTE_PRECISION}


def require_device(device: torch.device, required: Mapping[str, str]) -> None:
    """Raise NeurosegError if the device of this machine would give different bytes than other machines of the run."""
    found = device_identity(device)
    other = {key: value for key, value in required.items() if value != found[key]}
    if other:
        differences = ", ".join(f"{key} {found[key]}, expected {value}" for key, value in other.items())
        raise NeurosegError(
            f"{platform.node()} would give different affinities than the other machines of this run: {differences}",
            hint="request machines of one kind, for example with a partition or a constraint",
        )


def device_identity(device: torch.device) -> dict[str, str]:
    """Return the properties of the device and of torch that determine the bytes of a forward pass."""
    capability = torch.backends.cpu.get_cpu_capability() if device.type == "cpu" else "-"
    return {
        "device_type": device.type,
        "cpu_capability": capability,
        "precision": str(precision_of(device)).removeprefix("torch."),
        "torch": torch.__version__,
    }

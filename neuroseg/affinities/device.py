"""The device that predicts: whether it is there, and what of it decides the bytes of a forward pass."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path

import torch

from neuroseg.errors import InputError, NeurosegError

# What GPUs of other machines must compute in: those that cannot would give other bytes than those that can.
_PRECISION_ELSEWHERE = "bfloat16"
# "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-40GB": as many cores whatever the memory.
_MEMORY = re.compile(r"[ -]\d+ ?GB( HBM\w*)?$")


def choose_device(name: str) -> torch.device:
    """Return the device called `auto`, `cpu`, `cuda` or `cuda:N`; raises InputError when it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"unknown device {name!r} (valid: auto, cpu, cuda, cuda:N)") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {name} is not there: this machine has {torch.cuda.device_count()} CUDA devices")
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device {name!r} is not supported (valid: auto, cpu, cuda, cuda:N)")
    return device


def own_gpus(device: str) -> list[str]:
    """Return the GPUs among which this machine's workers are shared out, as CUDA_VISIBLE_DEVICES names them.

    None for `cpu`, and for one GPU that was chosen by its number. Those unlike the first, which could give other bytes,
    are left out.
    """
    if device != "cuda":
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    names = named.split(",")[:count] if named else [str(number) for number in range(count)]
    kinds = [gpu_kind(torch.device("cuda", number)) for number in range(len(names))]
    return [name for name, kind in zip(names, kinds, strict=True) if kind == kinds[0]]


def gpu_kind(device: torch.device) -> dict[str, str]:
    """Return the kind of a GPU: its name without the size of its memory, compute capability and multiprocessors.

    GPUs of one kind choose the same kernels; those of other kinds may sum in another order and give other bytes.
    """
    found = torch.cuda.get_device_properties(device)
    return {
        "gpu": _MEMORY.sub("", found.name),
        "compute_capability": f"{found.major}.{found.minor}",
        "multiprocessors": str(found.multi_processor_count),
    }


def require_kind(found: Mapping[str, str], recorded: Mapping[str, str], record: Path) -> None:
    """Raise NeurosegError when this machine's GPU is of another kind than the one that began the run's prediction."""
    if found != recorded:
        raise NeurosegError(
            f"{platform.node()} has a GPU of another kind than the one that began this run and would predict other "
            f"bytes: {_described(found)} instead of {_described(recorded)} ({record}); ask for GPUs that are alike (a "
            "partition, a constraint), or predict again with --restart affinities"
        )


def _described(kind: Mapping[str, str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in kind.items())


def precision_of(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the device multiplies it in hardware, float16 on older GPUs, float32 on older CPUs."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return torch.float32
    return torch.bfloat16 if "amx_bf16" in flags or "avx512_bf16" in flags else torch.float32


def device_elsewhere(name: str) -> tuple[str, dict[str, str]]:
    """Return name and identity of a device of the machines that will predict, which this one cannot ask.

    Raises InputError for a name that no machine has. Machines that compute otherwise refuse, see `require_device`: CPUs
    that are not as this one's, and GPUs without bfloat16. Of which kind the GPUs must be the first worker records.
    """
    if name in ("auto", "cpu"):
        return "cpu", device_identity(torch.device("cpu"))
    if name.split(":")[0] != "cuda":
        raise InputError(f"device {name!r} is not supported (valid: auto, cpu, cuda, cuda:N)")
    known = {"device_type": "cuda", "cpu_capability": "-", "torch": torch.__version__}
    return name, {**known, "precision": _PRECISION_ELSEWHERE}


def require_device(device: torch.device, promised: Mapping[str, str]) -> None:
    """Raise NeurosegError when this machine's device would give other bytes than the run's other machines."""
    found = device_identity(device)
    other = {key: value for key, value in promised.items() if value != found[key]}
    if other:
        told = ", ".join(f"{key} {found[key]} instead of {value}" for key, value in other.items())
        raise NeurosegError(
            f"{platform.node()} would predict other bytes than the run's other machines: {told}; ask for machines that "
            "are alike (a partition, a constraint)"
        )


def device_identity(device: torch.device) -> dict[str, str]:
    """Return what of the device and of torch decides the bytes of a forward pass."""
    capability = torch.backends.cpu.get_cpu_capability() if device.type == "cpu" else "-"
    return {
        "device_type": device.type,
        "cpu_capability": capability,
        "precision": str(precision_of(device)).removeprefix("torch."),
        "torch": torch.__version__,
    }

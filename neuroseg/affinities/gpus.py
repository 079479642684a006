"""The GPUs that a process may use: listed here, or by another process so that this one never initialises CUDA.

A head plans with the list of another process. CUDA would take memory of the GPU and of the head until the head ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache

import torch

from neuroseg.affinities.device import choose_device, gpu_kind, name_of, precision_of
from neuroseg.affinities.gpu_locks import held_gpu
from neuroseg.errors import NeurosegError

# Loading torch from a slow network disk takes a minute.
_LISTING_TIMEOUT_S = 300


@dataclass(frozen=True)
class Gpu:
    """A GPU: its number in torch, its unique identifier, its kind (see `gpu_kind`), and the precision of prediction."""

    number: int
    uuid: str
    kind: Mapping[str, str]
    precision: str


def own_gpus() -> list[Gpu]:
    """Return the GPUs that this process may use. Initialises CUDA."""
    devices = [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    return [
        Gpu(number, str(torch.cuda.get_device_properties(device).uuid), gpu_kind(device), name_of(precision_of(device)))
        for number, device in enumerate(devices)
    ]


def listed_gpus() -> tuple[Gpu, ...]:
    """Return the GPUs that this process may use, without initialising CUDA here.

    Another process lists them. This takes some seconds, once. Raises NeurosegError if it fails.
    """
    if torch.cuda.device_count() == 0:
        return ()
    return _listed(os.environ.get("CUDA_VISIBLE_DEVICES"))


@cache
def _listed(visible: str | None) -> tuple[Gpu, ...]:
    """Return the GPUs. The answer depends on the value of CUDA_VISIBLE_DEVICES."""
    found = json.loads(list_in_another_process())
    if not found:
        raise NeurosegError("torch finds GPUs but cannot use them", hint="run nvidia-smi, or use --device cpu")
    return tuple(Gpu(**each) for each in found)


def list_in_another_process() -> str:
    """Return the JSON that workers/list_gpus.py prints. Raises NeurosegError if it fails."""
    # -P: do not import from the working directory, which may contain data of others.
    command = [sys.executable, "-P", "-m", "neuroseg.workers.list_gpus"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL, timeout=_LISTING_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError) as error:
        reason = str(getattr(error, "stderr", "") or error).strip().splitlines()[-1]
        raise NeurosegError(
            f"cannot list the GPUs of this machine: {reason}", hint="run nvidia-smi, or use --device cpu"
        ) from error
    return done.stdout


def as_json(gpus: Sequence[Gpu]) -> str:
    """Return GPUs as `listed_gpus` reads them."""
    return json.dumps([asdict(gpu) for gpu in gpus])


def alike(gpus: Sequence[Gpu]) -> list[Gpu]:
    """Return the GPUs of the same kind as the first. Others could give different bytes."""
    return [gpu for gpu in gpus if gpu.kind == gpus[0].kind]


@contextmanager
def computing_device(name: str) -> Iterator[torch.device]:
    """Yield the device on which this process computes. A GPU is held meanwhile, see `held_gpu`.

    `cuda` means any of the GPUs that are like the first, `cuda:N` the GPU of this number. Raises InputError if this
    machine does not have the device.
    """
    device = choose_device(name)
    if device.type != "cuda":
        yield device
        return
    gpus = own_gpus()
    wanted = alike(gpus) if device.index is None else [gpus[device.index]]
    with held_gpu([gpu.uuid for gpu in wanted]) as place:
        yield torch.device("cuda", wanted[place].number)

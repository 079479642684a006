"""Several processes, started by torchrun, that train one network. Each has its own batches."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import nn

from neuroseg.errors import RunRefusedError

_LONGEST_VALIDATION = timedelta(hours=24)


@dataclass(frozen=True)
class ProcessGroup:
    """The rank of this process and the number of processes. A single process is a group of one."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process validates, logs and saves."""
        return self.rank == 0

    def any_of(self, flag: bool) -> bool:
        """Return whether `flag` is true in any process. All processes must call this."""
        if self.size == 1:
            return flag
        flags = torch.tensor([float(flag)], device=_device_of_messages())
        torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
        return bool(flags.item() > 0)

    def mean(self, numbers: dict[str, float]) -> dict[str, float]:
        """Return the mean of each number over the processes. All processes must call this."""
        if self.size == 1:
            return numbers
        means = self.mean_of(torch.tensor(list(numbers.values()))).tolist()
        return dict(zip(numbers, means, strict=True))

    def mean_of(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the elementwise mean of a tensor over the processes, without gradient. All must call this."""
        if self.size == 1:
            return tensor.detach()
        summed = tensor.detach().to(_device_of_messages(), copy=True)
        torch.distributed.all_reduce(summed)
        return (summed / self.size).to(tensor.device)

    def require_size(self, processes: int, folder: Path) -> None:
        """Raise RunRefusedError unless the number of processes equals that of the resumed training."""
        if processes != self.size:
            raise RunRefusedError(
                f"the training in {folder} used {processes} processes, found {self.size}; the samples would differ",
                hint=f"start {processes} processes, or train again with --restart",
            )

    def wait(self) -> None:
        """Wait until all processes have called this."""
        if self.size > 1:
            torch.distributed.barrier()

    def parallel(self, network: nn.Module, device: torch.device) -> nn.Module:
        """Return a network that averages the gradients of all processes.

        On GPUs, call `with_shared_statistics` first.
        """
        if self.size == 1:
            return network
        return nn.parallel.DistributedDataParallel(network, [device.index] if device.type == "cuda" else None)

    def with_shared_statistics(self, network: nn.Module, device: torch.device) -> nn.Module:
        """Return the network with batch statistics shared by all processes. Only GPUs support this."""
        if self.size == 1 or device.type != "cuda":
            return network
        common: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return common

    def share(self, samples: Any, batch: int) -> Any:
        """Return the samples of this process: of each `size` consecutive batches, the one of its rank."""
        return samples if self.size == 1 else Share(samples, batch, self)


class Share:
    """Every `size`-th batch of a sequence of samples, starting at the rank."""

    def __init__(self, samples: Any, batch: int, group: ProcessGroup) -> None:
        self._samples, self._batch, self._team = samples, batch, group

    def __len__(self) -> int:
        return len(self._samples) // self._team.size

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(index)
        turn, place = divmod(index, self._batch)
        return self._samples[(turn * self._team.size + self._team.rank) * self._batch + place]


@contextmanager
def process_group() -> Iterator[ProcessGroup]:
    """Yield the group described by the environment of torchrun, or a group of one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ProcessGroup()
        return
    # The other processes wait while the first one validates.
    torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=_LONGEST_VALIDATION)
    try:
        yield ProcessGroup(torch.distributed.get_rank(), size)
    finally:
        torch.distributed.destroy_process_group()


def local_device(name: str) -> str:
    """Return the device of this process. For `auto` and `cuda` it is the GPU with the local rank of the process."""
    if name in ("auto", "cuda") and "LOCAL_RANK" in os.environ and torch.cuda.is_available():
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return name


def _device_of_messages() -> str:
    return f"cuda:{os.environ['LOCAL_RANK']}" if torch.distributed.get_backend() == "nccl" else "cpu"

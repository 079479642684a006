"""Several processes that train one network, each on its share of every batch (torchrun starts them)."""

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
    """This process' number and how many there are; one process alone is a group."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process validates, logs and saves."""
        return self.rank == 0

    def any_of(self, wish: bool) -> bool:
        """Return whether any process wishes so; all must ask."""
        if self.size == 1:
            return wish
        wishes = torch.tensor([float(wish)], device=_device_of_messages())
        torch.distributed.all_reduce(wishes, torch.distributed.ReduceOp.MAX)
        return bool(wishes.item() > 0)

    def mean(self, numbers: dict[str, float]) -> dict[str, float]:
        """Return the mean of each number over the processes; all must ask."""
        if self.size == 1:
            return numbers
        means = self.mean_of(torch.tensor(list(numbers.values()))).tolist()
        return dict(zip(numbers, means, strict=True))

    def mean_of(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the mean of a tensor over the processes, element by element, without its gradient; all must ask."""
        if self.size == 1:
            return tensor.detach()
        summed = tensor.detach().to(_device_of_messages(), copy=True)
        torch.distributed.all_reduce(summed)
        return (summed / self.size).to(tensor.device)

    def require_size(self, processes: int, folder: Path) -> None:
        """Raise RunRefusedError unless there are as many processes as in a training that is resumed."""
        if processes != self.size:
            raise RunRefusedError(
                f"{folder} was trained by {processes} processes, now there are {self.size}: their samples would "
                "differ; start as many, or --restart"
            )

    def wait(self) -> None:
        """Return when all have come here."""
        if self.size > 1:
            torch.distributed.barrier()

    def parallel(self, network: nn.Module, device: torch.device) -> nn.Module:
        """Return what passes batches through a network and averages the gradients of all processes.

        On GPUs its batch normalisation must have been made common by `with_shared_statistics` before.
        """
        if self.size == 1:
            return network
        return nn.parallel.DistributedDataParallel(network, [device.index] if device.type == "cuda" else None)

    def with_shared_statistics(self, network: nn.Module, device: torch.device) -> nn.Module:
        """Return the network, normalising by the statistics of all processes' batches where the device can."""
        if self.size == 1 or device.type != "cuda":
            return network
        common: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return common

    def share(self, samples: Any, batch: int) -> Any:
        """Return this process' part of a sequence of samples: of `size` batches in a row, the one of its rank."""
        return samples if self.size == 1 else Share(samples, batch, self)


class Share:
    """Every `size`-th batch of a sequence of samples."""

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
    """Yield the group that torchrun's environment describes; a group of one where there is none."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ProcessGroup()
        return
    # The others wait while the first validates.
    torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=_LONGEST_VALIDATION)
    try:
        yield ProcessGroup(torch.distributed.get_rank(), size)
    finally:
        torch.distributed.destroy_process_group()


def local_device(name: str) -> str:
    """Return the device of this process: `auto` and `cuda` are the GPU of its number on this machine."""
    if name in ("auto", "cuda") and "LOCAL_RANK" in os.environ and torch.cuda.is_available():
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return name


def _device_of_messages() -> str:
    return f"cuda:{os.environ['LOCAL_RANK']}" if torch.distributed.get_backend() == "nccl" else "cpu"

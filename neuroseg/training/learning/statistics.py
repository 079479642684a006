"""Recompute the statistics of batch normalisation for averaged weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim.swa_utils import update_bn


class Crops(Protocol):
    """A sequence of named arrays `(channels, z, y, x)`."""

    def __getitem__(self, index: int) -> Mapping[str, NDArray[np.float32]]:
        """Return item `index`."""
        ...


def with_recomputed_statistics(
    network: nn.Module, crops: Crops, name: str, *, count: int, batch: int, device: torch.device
) -> nn.Module:
    """Return a copy of a network with batch statistics recomputed from array `name` of the first `count` crops.

    Running means and variances are averages over batches of `batch` crops, as in training. The stored statistics lag
    behind the weights, and averaged weights give features of another scale (Izmailov et al., "Averaging weights leads
    to wider optima and better generalization", 2018). With a `count` of 0, the network is returned unchanged. Only the
    calling process takes part.
    """
    if count == 0:
        return network
    own = _without_synchronisation(copy.deepcopy(network))
    update_bn(_tensors(crops, name, count, batch), own, device)
    return own.eval()


def _without_synchronisation(module: nn.Module) -> nn.Module:
    """Return the module with synchronised normalisation layers replaced by local ones."""
    if isinstance(module, nn.SyncBatchNorm):
        layer = nn.BatchNorm3d(module.num_features, module.eps, module.momentum, module.affine).to(module.weight.device)
        layer.load_state_dict(module.state_dict())
        return layer
    for name, child in module.named_children():
        setattr(module, name, _without_synchronisation(child))
    return module


def _tensors(crops: Crops, name: str, count: int, batch: int) -> Iterator[Any]:
    for first in range(0, count, batch):
        stacked = np.stack([crops[index][name] for index in range(first, min(first + batch, count))])
        yield torch.from_numpy(stacked).contiguous(memory_format=torch.channels_last_3d)

"""Statistics of batch normalisation, taken anew for weights that no step had: those of an average."""

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
    """Return a copy that normalises by what it makes itself of array `name` of `count` crops, `batch` at a time.

    Running means and variances are the averages of those of each batch, as in training. Those that the network comes
    with trail the weights, and averaged weights make features of another size than the weights they average (Izmailov
    et al., "Averaging weights leads to wider optima and better generalization", 2018). A network without batch
    normalisation, and any with a `count` of 0, stays as it is. One process does this alone: no other takes part.
    """
    if count == 0:
        return network
    own = _alone(copy.deepcopy(network))
    update_bn(_tensors(crops, name, count, batch), own, device)
    return own.eval()


def _alone(module: nn.Module) -> nn.Module:
    """Return the module with layers that would wait for other processes replaced by ones that do not."""
    if isinstance(module, nn.SyncBatchNorm):
        layer = nn.BatchNorm3d(module.num_features, module.eps, module.momentum, module.affine).to(module.weight.device)
        layer.load_state_dict(module.state_dict())
        return layer
    for name, child in module.named_children():
        setattr(module, name, _alone(child))
    return module


def _tensors(crops: Crops, name: str, count: int, batch: int) -> Iterator[Any]:
    for first in range(0, count, batch):
        stacked = np.stack([crops[index][name] for index in range(first, min(first + batch, count))])
        yield torch.from_numpy(stacked).contiguous(memory_format=torch.channels_last_3d)

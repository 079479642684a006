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


def with_own_statistics(network: nn.Module, crops: Crops, name: str, count: int, device: torch.device) -> nn.Module:
    """Return a copy whose running means and variances are those of what it makes of array `name` of `count` crops.

    Those that it comes with trail the weights, and averaged weights make features of another size than the weights
    they average (Izmailov et al., "Averaging weights leads to wider optima and better generalization", 2018). A network
    without batch normalisation, and any with a `count` of 0, stays as it is.
    """
    if count == 0:
        return network
    own = copy.deepcopy(network)
    update_bn(_tensors(crops, name, count), own, device)
    return own.eval()


def _tensors(crops: Crops, name: str, count: int) -> Iterator[Any]:
    for index in range(count):
        yield torch.from_numpy(crops[index][name])[None].contiguous(memory_format=torch.channels_last_3d)

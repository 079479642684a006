"""Statistics of batch normalisation taken anew, on numbers that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from neuroseg.training.statistics import with_own_statistics

CPU = torch.device("cpu")
CROPS = [{"raw": np.full((1, 1, 1, 2), low, np.float32) + np.array([0, 2], np.float32)} for low in (0, 10, 1000)]


@pytest.mark.parametrize(("batch", "variance"), [(1, 2.0), (2, (4 * 25 + 4 * 1) / 3)])
def test_means_and_variances_are_those_of_the_first_crops(batch: int, variance: float) -> None:
    network = nn.BatchNorm3d(1, momentum=0.001)
    own = with_own_statistics(network, CROPS, "raw", count=2, batch=batch, device=CPU)
    assert isinstance(own, nn.BatchNorm3d)
    assert own.running_mean is not None
    assert own.running_var is not None
    assert own.running_mean.item() == pytest.approx((1 + 11) / 2)
    assert own.running_var.item() == pytest.approx(variance), "0, 2 and 10, 12: of each, or of all four around 6"
    assert (own.momentum, own.training) == (0.001, False)
    assert network.running_mean is not None
    assert network.running_mean.item() == 0, "the network that was given stays as it was"


def test_without_crops_or_batch_normalisation_nothing_changes() -> None:
    network = nn.BatchNorm3d(1)
    assert with_own_statistics(network, CROPS, "raw", count=0, batch=1, device=CPU) is network
    grouped = nn.GroupNorm(1, 1)
    nn.init.normal_(grouped.weight)
    own = with_own_statistics(grouped, CROPS, "raw", count=2, batch=1, device=CPU)
    assert torch.equal(own.state_dict()["weight"], grouped.weight)


def test_layers_that_wait_for_other_processes_are_replaced() -> None:
    plain = nn.Sequential(nn.Sequential(nn.BatchNorm3d(1, momentum=0.001)))
    nn.init.normal_(plain[0][0].weight)
    shared = nn.SyncBatchNorm.convert_sync_batchnorm(plain)
    own = with_own_statistics(shared, CROPS, "raw", count=2, batch=1, device=CPU)
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in own.modules())
    assert own.state_dict()["0.0.running_mean"].item() == pytest.approx(6)
    assert torch.equal(own.state_dict()["0.0.weight"], shared.state_dict()["0.0.weight"])

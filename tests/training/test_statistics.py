"""Statistics of batch normalisation taken anew, on numbers that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from neuroseg.training.statistics import with_own_statistics

CPU = torch.device("cpu")
CROPS = [{"raw": np.full((1, 1, 1, 2), low, np.float32) + np.array([0, 2], np.float32)} for low in (0, 10, 1000)]


def test_means_and_variances_are_those_of_the_first_crops() -> None:
    network = nn.BatchNorm3d(1, momentum=0.001)
    own = with_own_statistics(network, CROPS, "raw", 2, CPU)
    assert isinstance(own, nn.BatchNorm3d)
    assert own.running_mean is not None
    assert own.running_var is not None
    assert own.running_mean.item() == pytest.approx((1 + 11) / 2)
    assert own.running_var.item() == pytest.approx(2.0), "of each crop, 0 and 2 with n - 1"
    assert (own.momentum, own.training) == (0.001, False)
    assert network.running_mean is not None
    assert network.running_mean.item() == 0, "the network that was given stays as it was"


def test_without_crops_or_batch_normalisation_nothing_changes() -> None:
    network = nn.BatchNorm3d(1)
    assert with_own_statistics(network, CROPS, "raw", 0, CPU) is network
    grouped = nn.GroupNorm(1, 1)
    own = with_own_statistics(grouped, CROPS, "raw", 2, CPU)
    assert own.state_dict().keys() == grouped.state_dict().keys()

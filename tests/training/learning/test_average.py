"""The average of weights, checked by hand step by step."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from neuroseg.training.learning.average import WeightAverage


def at(value: float) -> nn.BatchNorm1d:
    """A network with all weights and buffers equal to `value`."""
    network = nn.BatchNorm1d(1)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.fill_(value)
    return network


def test_early_steps_have_equal_weight_and_later_ones_decay() -> None:
    average = WeightAverage(at(7.0), decay=0.6)
    seen = []
    for step, value in enumerate((2.0, 4.0, 6.0)):
        average.update(at(value), step)
        seen.append(average.network.state_dict()["weight"].item())
    # min(1 - 1 / (step + 1), 0.6) is 0, then 1/2, then 0.6 instead of 2/3.
    assert seen == pytest.approx([2.0, 3.0, 0.6 * 3.0 + 0.4 * 6.0])


@pytest.mark.parametrize("with_buffers", [True, False])
def test_statistics_are_averaged_unless_excluded(with_buffers: bool) -> None:
    average = WeightAverage(at(1.0), decay=0.5, with_buffers=with_buffers)
    average.update(at(3.0), 9)
    state = average.network.state_dict()
    assert state["weight"].item() == state["bias"].item() == 2.0
    assert state["running_mean"].item() == state["running_var"].item() == (2.0 if with_buffers else 1.0)
    assert state["num_batches_tracked"].item() == (3 if with_buffers else 1)


def test_an_average_has_no_gradients() -> None:
    average = WeightAverage(at(1.0), decay=0.5)
    assert not average.network.training
    assert not any(parameter.requires_grad for parameter in average.network.parameters())

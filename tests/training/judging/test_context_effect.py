"""The context effect is measured with the tiles and blend of the model."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import nn
from torch.nn import functional

from neuroseg.networks.windows import WindowRule
from neuroseg.training.judging.context_effect import context_effect
from neuroseg.training.train import open_training


class Mean(nn.Module):
    """A network that predicts the mean over `2 reach + 1` voxels on each axis, with zeros outside the window."""

    windows = WindowRule((1, 1, 1))

    def __init__(self, reach: int) -> None:
        super().__init__()
        self._reach = reach

    def forward(self, raw: torch.Tensor) -> torch.Tensor:
        mean = functional.avg_pool3d(raw.float(), 2 * self._reach + 1, 1, self._reach)
        return (8 * mean - 4).expand(-1, 3, -1, -1, -1)


@pytest.mark.parametrize(
    ("blend", "reach", "depends"),
    [("centre", 0, False), ("centre", 6, False), ("centre", 11, True), ("gaussian", 0, False), ("gaussian", 6, True)],
)
def test_the_context_effect_uses_the_blend_of_validation(
    blend: Literal["centre", "gaussian"], reach: int, depends: bool, configuration: Path
) -> None:
    """The context is 8 voxels. The zeros outside do not change a centre crop, but they change a blend slightly."""
    opened = open_training(configuration)
    validation = opened.settings.validation.model_copy(update={"blend": blend})
    settings = opened.settings.model_copy(update={"validation": validation})
    found = context_effect(Mean(reach), opened.validation, settings, torch.device("cpu"))
    # A blend sums products with other weights, so a value may be rounded differently.
    assert (found["changed"] > 0.01) == depends, found
    assert (found["largest"] > 1) == (depends and blend == "centre"), found

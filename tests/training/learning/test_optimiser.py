"""One step of the optimiser: clipping, and refusal of values that are not finite."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from neuroseg.errors import NeurosegError
from neuroseg.training.learning.optimiser import build_optimiser, learning_rate, take_step
from neuroseg.training.learning.records import load_checkpoint
from neuroseg.training.settings import OptimiserSettings


def test_a_gradient_that_is_not_finite_changes_no_weight(tmp_path: Path) -> None:
    network = nn.Linear(1, 1, bias=False)
    before = network.weight.clone()
    settings = OptimiserSettings(steps=9, patch_voxels=(8, 8, 8), gradient_norm=None)
    loss = network(torch.zeros(1, 1)).abs().sqrt().sum()  # 0, with an infinite slope
    with pytest.raises(NeurosegError, match=r"norm of the gradient is (nan|inf) at step 3"):
        take_step(loss, {"raw": torch.ones(1)}, network, build_optimiser(network, settings), settings, 3, tmp_path)
    assert torch.equal(network.weight, before)
    assert load_checkpoint(tmp_path / "batch-3.pt")["raw"] == 1


@pytest.mark.parametrize(("most", "moved"), [(0.5, 0.5), (None, 3.0)])
def test_gradients_are_clipped_if_configured(most: float | None, moved: float, tmp_path: Path) -> None:
    network = nn.Linear(1, 1, bias=False)
    settings = OptimiserSettings(steps=9, patch_voxels=(8, 8, 8), gradient_norm=most)
    take_step(
        network(torch.full((1, 1), 3.0)).sum(), {}, network, build_optimiser(network, settings), settings, 0, tmp_path
    )
    assert network.weight.grad is not None
    assert network.weight.grad.item() == pytest.approx(moved)


def test_the_published_optimiser_is_amsgrad_with_a_constant_rate() -> None:
    settings = OptimiserSettings(
        steps=9, patch_voxels=(8, 8, 8), algorithm="adam", amsgrad=True, schedule="constant", warm_up_steps=0,
        learning_rate=1e-4, epsilon=0.01,
    )  # fmt: skip
    assert {learning_rate(step, settings) for step in range(9)} == {1e-4}
    made = build_optimiser(nn.Linear(1, 1), settings)
    assert type(made) is torch.optim.Adam
    assert made.defaults["amsgrad"]
    assert (made.defaults["eps"], made.defaults["betas"]) == (0.01, (0.9, 0.999))

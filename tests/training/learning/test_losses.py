"""Two processes give the loss of one process with both batches, also for unequal batches."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from neuroseg.training.learning.consistency import consistency_loss
from neuroseg.training.learning.losses import (
    MeanOverProcesses,
    balanced_cross_entropy,
    cross_entropy,
    divisor,
    keep,
    training_loss,
)

Batch = dict[str, torch.Tensor]
Loss = Callable[[torch.Tensor, Batch, MeanOverProcesses], torch.Tensor]
SHAPE = (4, 3, 2, 4, 4)
SECOND_HALF = {"all of it": 1.0, "some of it": 0.2, "nothing": 0.0}


def whole_loss(logits: torch.Tensor, batch: Batch, mean_of: MeanOverProcesses) -> torch.Tensor:
    parts = training_loss(
        logits, batch, affinity_channels=2, auxiliary_weight=0.5, descriptor_weight=4.0, mean_of=mean_of
    )
    assert set(parts) == {"total", "affinities", "auxiliary", "descriptors"}
    return parts["total"]


LOSSES: dict[str, Loss] = {
    "cross entropy": lambda x, b, m: cross_entropy(x[:, :3], b["targets"], b["mask"], m).sum(),
    "balanced": lambda x, b, m: balanced_cross_entropy(x[:, :3], b["targets"], b["mask"], m).sum(),
    "with auxiliary targets and descriptors": whole_loss,
    "consistency": lambda x, b, m: consistency_loss(x, b["targets"], b["mask"], SHAPE[2:], m),
}


def made_batch(known: float) -> Batch:
    """Four crops: two with complete masks, two with partial masks. The first ones have more linked voxels."""
    rng = torch.Generator().manual_seed(4)
    linked = torch.tensor([0.9, 0.8, 0.4, 0.3]).view(4, 1, 1, 1, 1)
    shares = torch.tensor([1.0, 1.0, known, known]).view(4, 1, 1, 1, 1)
    described = (torch.rand((4, 1, *SHAPE[2:]), generator=rng) < shares).float()
    return {
        "targets": (torch.rand(SHAPE, generator=rng) < linked).float(),
        "mask": (torch.rand(SHAPE, generator=rng) < shares).float(),
        "descriptors": torch.rand((4, 10, *SHAPE[2:]), generator=rng),
        "descriptor_mask": described,
    }


def two_processes() -> MeanOverProcesses:
    """Return a function that two threads call equally often to get the mean of both values."""
    barrier, brought = threading.Barrier(2), []

    def mean_of(tensor: torch.Tensor) -> torch.Tensor:
        place = barrier.wait(10)
        if place == 0:
            brought.clear()
        barrier.wait(10)
        brought.append(tensor.detach().clone())
        barrier.wait(10)
        return torch.stack(brought).mean(0)

    return mean_of


@pytest.mark.parametrize("known", SECOND_HALF.values(), ids=SECOND_HALF)
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_two_halves_give_the_loss_and_gradient_of_the_whole(loss: Loss, known: float) -> None:
    batch = made_batch(known)
    logits = torch.randn((4, 13, *SHAPE[2:]), generator=torch.Generator().manual_seed(5), requires_grad=True)
    whole = loss(logits, batch, keep)
    (gradient,) = torch.autograd.grad(whole, logits)
    mean_of = two_processes()

    def half(rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        part = slice(2 * rank, 2 * rank + 2)
        mine = logits[part].detach().requires_grad_()
        found = loss(mine, {name: tensor[part] for name, tensor in batch.items()}, mean_of)
        return found.detach(), torch.autograd.grad(found, mine)[0]

    with ThreadPoolExecutor(2) as pool:
        (one, its), (other, others) = pool.map(half, range(2))
    assert ((one + other) / 2).item() == pytest.approx(whole.item(), rel=1e-5)
    # The gradients of all processes are averaged.
    assert torch.allclose(torch.cat([its, others]) / 2, gradient, atol=1e-7, rtol=1e-4)
    if known < 1.0:
        alone = [loss(logits[p], {n: t[p] for n, t in batch.items()}, keep) for p in (slice(0, 2), slice(2, 4))]
        assert (sum(alone) / 2).item() != pytest.approx(whole.item(), rel=1e-2), "each by itself would not have it"


def test_a_mean_over_no_voxels_is_zero() -> None:
    assert divisor(torch.tensor([0.0, 0.25, 3.0])).tolist() == [1.0, 0.25, 3.0]

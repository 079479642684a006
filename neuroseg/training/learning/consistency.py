"""Consistency learning: a network learns to predict for a perturbed crop what its teacher predicts for the clean one.

After Huang et al., "Semi-supervised neuron segmentation via reinforced consistency learning" (IEEE TMI, 2022).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from neuroseg.networks.orientations import Orientation
from neuroseg.training.learning.losses import MeanOverProcesses, centre, divisor, keep
from neuroseg.training.perturbations.draw import IN_PLANE, UNTURNED
from neuroseg.training.perturbations.moved_affinities import Offset, displaced_affinities, turned_affinities
from neuroseg.training.settings import ConsistencySettings

# Additional orientations for the teacher: z flipped and y, x exchanged; y and x flipped; both. Each is its own inverse.
VIEWS = tuple(
    IN_PLANE.index(Orientation(permutation, flips))
    for permutation, flips in (
        ((0, 2, 1), (True, False, False)), ((0, 1, 2), (False, True, True)), ((0, 2, 1), (True, True, True)),
    )
)  # fmt: skip


def consistency_weight(step: int, settings: ConsistencySettings) -> float:
    """Return the weight of the loss at `step` (from 0).

    0 before `begin_step`, then rising as exp(-5 (1 - t)^2) over `ramp_steps`, then constant.
    """
    since = step - settings.begin_step
    if since < 0:
        return 0.0
    if since >= settings.ramp_steps:
        return settings.weight
    return settings.weight * math.exp(-5.0 * (1.0 - since / settings.ramp_steps) ** 2)


@torch.no_grad()
def expected_affinities(
    teacher: Callable[[torch.Tensor], torch.Tensor],
    batch: dict[str, torch.Tensor],
    offsets: Sequence[Offset],
    settings: ConsistencySettings,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the expected affinities of the perturbed crops, `(n, c, z, y, x)` in [0, 1], and a mask of 0 and 1.

    The teacher predicts the clean crops, in several orientations if the settings say so. Its affinities then move with
    the tissue.
    """
    affinities = mean_affinities(teacher, batch["clean"], offsets, settings.teacher_orientations)
    mask = ((2 * affinities - 1).abs() >= settings.confidence).to(affinities.dtype)
    if settings.published:
        return affinities, mask
    displacement = centre(batch["displacement"], affinities.shape[2:])
    made = [
        _moved(torch.cat([a, m]), d, int(turn), [*offsets, *offsets])
        for a, m, d, turn in zip(affinities, mask, displacement, batch["turn"], strict=True)
    ]
    moved, known = torch.stack([each for each, _ in made]), torch.stack([each for _, each in made])
    count = len(offsets)
    return moved[:, :count], (moved[:, count:] > 0.5).to(moved.dtype) * known[:, :count]


def mean_affinities(
    teacher: Callable[[torch.Tensor], torch.Tensor], clean: torch.Tensor, offsets: Sequence[Offset], count: int
) -> torch.Tensor:
    """Return the mean affinities `(n, c, z, y, x)` in [0, 1] of clean crops `(n, 1, z, y, x)` over orientations.

    Averages `count` orientations (1, 2 or 4), each turned back. The first is the original one. At the faces, a turned
    crop lacks some links; they are left out of the mean.
    """
    total = torch.sigmoid(teacher(clean)[:, : len(offsets)].float())
    counted = torch.ones_like(total)
    for turn in VIEWS[: count - 1]:
        orientation = IN_PLANE[turn]
        axes = [axis - 3 for axis, flip in enumerate(orientation.flips) if flip]
        turned = clean.permute(0, 1, *(2 + axis for axis in orientation.permutation)).flip(axes)
        predicted = torch.sigmoid(teacher(turned)[:, : len(offsets)].float())
        for number, crop in enumerate(predicted):
            values, known = turned_affinities(crop, turn, offsets)
            total[number] += values * known
            counted[number] += known
    return total / counted


def _moved(
    affinities: torch.Tensor, displacement: torch.Tensor, turn: int, offsets: Sequence[Offset]
) -> tuple[torch.Tensor, torch.Tensor]:
    if turn != UNTURNED:
        half = len(offsets) // 2
        parts = [turned_affinities(part, turn, offsets[:half]) for part in (affinities[:half], affinities[half:])]
        return torch.cat([part for part, _ in parts]), torch.cat([known for _, known in parts])
    if displacement.any():
        return displaced_affinities(affinities, displacement, offsets)
    return affinities, torch.ones_like(affinities)


def consistency_loss(
    logits: torch.Tensor,
    expected: torch.Tensor,
    mask: torch.Tensor,
    inner: Sequence[int],
    mean_of: MeanOverProcesses = keep,
) -> torch.Tensor:
    """Return the mean squared difference between the affinities of `logits` and the expected ones within the mask.

    Only the central `inner` voxels count, because a padding teacher lacks context near the faces. The mean is over the
    voxels of all processes (`mean_of`, see losses.py).
    """
    logits, expected, mask = (centre(each, torch.Size(inner)) for each in (logits, expected, mask))
    found = torch.sigmoid(logits[:, : expected.shape[1]].float())
    return ((found - expected) ** 2 * mask).sum() / divisor(mean_of(mask.sum()))


@contextlib.contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Normalise with the statistics of each batch in training mode, but keep the running statistics unchanged."""
    layers = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    counts = [layer.num_batches_tracked.clone() for layer in layers if layer.num_batches_tracked is not None]
    try:
        for layer in layers:
            layer.momentum = 0.0
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for layer, count in zip((each for each in layers if each.num_batches_tracked is not None), counts, strict=True):
            assert layer.num_batches_tracked is not None
            layer.num_batches_tracked.copy_(count)

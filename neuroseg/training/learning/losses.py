"""The training loss: cross entropy on affinities, squared error on shape descriptors.

Each mean is over the voxels of all processes that train together. DistributedDataParallel averages the gradients of
their losses, so the result equals the loss of one process with all batches.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

MeanOverProcesses = Callable[[torch.Tensor], torch.Tensor]
"""Mean of a tensor over all processes (`ProcessGroup.mean_of`). All processes must make the same calls in order."""

_LEAST_SHARE = 0.05


def keep(counts: torch.Tensor) -> torch.Tensor:
    """Return the counts unchanged: with one process, they are the mean."""
    return counts


def cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor, mean_of: MeanOverProcesses = keep
) -> torch.Tensor:
    """Return the mean cross entropy per channel `(c,)` over the voxels of the mask, all with equal weight."""
    axes = (0, 2, 3, 4)
    losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (losses * mask).sum(axes) / divisor(mean_of(mask.sum(axes)))


def balanced_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor, mean_of: MeanOverProcesses = keep
) -> torch.Tensor:
    """Return the mean cross entropy per channel `(c,)` with equal weight for both classes.

    `logits`, `targets` and `mask` are `(n, c, z, y, x)`. A class rarer than 5 % gets the weight of 5 %, so the loss of
    a patch with only one class stays bounded.
    """
    axes = (0, 2, 3, 4)
    count, linked = mean_of(torch.stack([mask.sum(axes), (targets * mask).sum(axes)]))
    positive = (linked / divisor(count)).clamp(_LEAST_SHARE, 1 - _LEAST_SHARE).view(1, -1, 1, 1, 1)
    weights = torch.addcmul(0.5 / (1 - positive), targets, 0.5 / positive - 0.5 / (1 - positive)) * mask
    losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (losses * weights).sum(axes) / divisor(mean_of(weights.sum(axes)))


def training_loss(
    logits: torch.Tensor,
    batch: dict[str, torch.Tensor],
    *,
    affinity_channels: int,
    auxiliary_weight: float,
    descriptor_weight: float,
    balanced: bool = True,
    mean_of: MeanOverProcesses = keep,
) -> dict[str, torch.Tensor]:
    """Return the parts of the loss and their `total`, each a scalar.

    Channels of `logits`: the affinities, the auxiliary affinities, and ten descriptors if the batch contains them.
    Targets smaller than the logits belong to their centre. Logits near the faces, where the network lacks context, are
    ignored. All processes must call this with the same parts of a batch.
    """
    targets = batch["targets"]
    logits = centre(logits, targets.shape[2:]).float()
    measure = balanced_cross_entropy if balanced else cross_entropy
    entropy = measure(logits[:, : targets.shape[1]], targets, batch["mask"], mean_of)
    parts = {"affinities": entropy[:affinity_channels].mean()}
    total = parts["affinities"]
    if targets.shape[1] > affinity_channels:
        parts["auxiliary"] = entropy[affinity_channels:].mean()
        total = total + auxiliary_weight * parts["auxiliary"]
    if "descriptors" in batch:
        squared = (logits[:, targets.shape[1] :] - batch["descriptors"]) ** 2
        described = batch["descriptor_mask"]
        count = mean_of(described.sum() * squared.shape[1])
        parts["descriptors"] = (squared * described).sum() / divisor(count)
        total = total + descriptor_weight * parts["descriptors"]
    return {"total": total, **parts}


def divisor(count: torch.Tensor) -> torch.Tensor:
    """Return the divisor for a mean over `count` items. It is 1 for 0 items, so that their mean is 0."""
    return torch.where(count > 0, count, 1.0)


def centre(tensor: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Return the central part of a tensor, with `shape` along the last three axes."""
    margins = [(size - width) // 2 for size, width in zip(tensor.shape[2:], shape, strict=True)]
    box = tuple(slice(margin, margin + width) for margin, width in zip(margins, shape, strict=True))
    return tensor[(slice(None), slice(None), *box)]

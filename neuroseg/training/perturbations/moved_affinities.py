"""Affinities of the clean crop -> expected affinities of the perturbed crop and their mask, on the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from neuroseg.training.perturbations.draw import IN_PLANE

Offset = tuple[int, int, int]
# If a link's two voxels moved apart by more than this, its affinity is unknown.
_TORN_VOXELS = 0.75


def displaced_affinities(
    affinities: torch.Tensor, displacement: torch.Tensor, offsets: Sequence[Offset]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return affinities `(c, z, y, x)` displaced by `(2, z, y, x)` voxels, and a mask of 0 and 1.

    The mask is 0 if a voxel of the link comes from outside the crop, or if the displacement moves the link's two voxels
    apart.
    """
    depth, height, width = affinities.shape[1:]
    device = affinities.device
    y = torch.arange(height, device=device).view(1, -1, 1) + displacement[0]
    x = torch.arange(width, device=device).view(1, 1, -1) + displacement[1]
    grid = torch.stack([2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1], dim=-1)
    moved = functional.grid_sample(
        affinities.float().transpose(0, 1), grid, mode="bilinear", padding_mode="border", align_corners=True
    ).transpose(0, 1)
    inside = ((y >= 0) & (y <= height - 1) & (x >= 0) & (x <= width - 1)).expand(depth, height, width)
    mask = torch.zeros_like(moved)
    for channel, offset in enumerate(offsets):
        here, there = _ends(offset, (depth, height, width))
        apart = (displacement[:, *here] - displacement[:, *there]).abs().amax(0)
        mask[channel][here] = (inside[here] & inside[there] & (apart <= _TORN_VOXELS)).to(mask.dtype)
    return moved, mask


def turned_affinities(
    affinities: torch.Tensor, turn: int, offsets: Sequence[Offset]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return affinities `(c, z, y, x)` of the crop turned to an orientation, and a mask of 0 and 1.

    A flip reverses a link, so its affinity is stored at the other voxel. The mask is 0 if that voxel lies outside the
    crop, and in channels whose turned offset is not in `offsets`.
    """
    orientation = IN_PLANE[turn]
    order = list(orientation.permutation)
    flipped = [axis for axis, flip in enumerate(orientation.flips) if flip]
    shape = affinities.shape[1:]
    made, masks = [], []
    for offset in offsets:
        source = [0, 0, 0]
        for axis, origin in enumerate(order):
            source[origin] = -offset[axis] if orientation.flips[axis] else offset[axis]
        step = (source[0], source[1], source[2])
        opposite = (-source[0], -source[1], -source[2])
        values, mask = torch.zeros_like(affinities[0]), torch.zeros_like(affinities[0])
        if step in offsets:
            values, mask = affinities[list(offsets).index(step)], torch.ones_like(values)
        elif opposite in offsets:
            here, there = _ends(step, shape)
            values[here] = affinities[list(offsets).index(opposite)][there]
            mask[here] = 1.0
        made.append(values.permute(order).flip(flipped))
        masks.append(mask.permute(order).flip(flipped))
    return torch.stack(made), torch.stack(masks)


def _ends(offset: Offset, shape: Sequence[int]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the box of all voxels v for which v + offset lies inside, and the box of v + offset."""
    steps = list(zip(offset, shape, strict=True))
    here = tuple(slice(max(0, -step), max(0, min(size, size - step))) for step, size in steps)
    there = tuple(slice(max(0, step), max(0, min(size, size + step))) for step, size in steps)
    return here, there

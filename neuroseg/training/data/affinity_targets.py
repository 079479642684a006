"""Labels -> affinity targets, with widened borders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Sides = Literal["both", "upper"]

UNLABELLED = np.uint32(np.iinfo(np.uint32).max)
"""Label of voxels without annotation. They have no targets and form no border."""


def with_widened_borders(
    labels: NDArray[np.integer], *, axes: Sequence[int], dilations: int, sides: Sides = "both"
) -> NDArray[np.integer]:
    """Return `labels` with 0 at borders, where two labels touch along `axes`.

    The border has one voxel on each side. With `sides="upper"` it has only the voxel that differs from the one before
    it, as in the published code. Each of `dilations` grows the border by one voxel along `axes`, diagonals included
    (the paper's 3x3 for y and x). With one dilation, borders are four voxels wide, or three with "upper". Labels next
    to UNLABELLED have no border there, and UNLABELLED voxels do not change.
    """
    unlabelled = labels == UNLABELLED
    border = np.zeros(labels.shape, bool)
    for axis in axes:
        low = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
        high = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
        differs = (labels[low] != labels[high]) & ~unlabelled[low] & ~unlabelled[high]
        if sides == "both":
            border[low] |= differs
        border[high] |= differs
    if dilations:
        structure = np.ones([3 if axis in axes else 1 for axis in range(3)], bool)
        border = ndimage.binary_dilation(border, structure, iterations=dilations)
    return np.where(border & ~unlabelled, 0, labels)


def affinity_targets(
    labels: NDArray[np.integer], offsets: Sequence[Sequence[int]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the targets and their mask, both `(channels, z, y, x)` float32 of 0 and 1.

    A target is 1 if voxel v and voxel v + offset have the same label and it is not 0. The mask is 0 if v + offset lies
    outside the array or if either voxel is UNLABELLED.
    """
    known = labels != UNLABELLED
    targets = np.zeros((len(offsets), *labels.shape), np.float32)
    mask = np.zeros_like(targets)
    for channel, offset in enumerate(offsets):
        steps = list(zip(offset, labels.shape, strict=True))
        here = tuple(slice(max(0, -step), min(size, size - step)) for step, size in steps)
        there = tuple(slice(max(0, step), min(size, size + step)) for step, size in steps)
        targets[channel][here] = (labels[here] == labels[there]) & (labels[here] != 0) & known[here]
        mask[channel][here] = known[here] & known[there]
    return targets, mask

"""Test-time augmentation: the network sees each window in several orientations, and its affinities are combined.

    window -> turned -> network -> turned back -> affinities of one orientation ─┐
           -> turned -> network -> turned back -> ...                            ┴─> mean or minimum

A flip reverses a link: the network's affinity of voxels (v, v - 1) is then stored at v - 1. So it is read one voxel
farther on, and a tile needs as much context as its offsets are long.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from neuroseg.errors import InputError
from neuroseg.geometry import Triple, triple
from neuroseg.networks.orientations import Orientation

if TYPE_CHECKING:
    import torch

COUNTS = (1, 4, 8, 16)
MEAN, MINIMUM = "mean", "minimum"


@dataclass(frozen=True)
class Augmentation:
    """The number of orientations, and how their affinities are combined.

    4 flips y and x, 8 also exchange y and x, 16 also flip z.
    """

    count: int = 1
    combine: str = MEAN

    def orientations(self) -> list[Orientation]:
        """Return the orientations. The first one is that of the volume."""
        orders = [(0, 1, 2), (0, 2, 1)] if self.count >= COUNTS[2] else [(0, 1, 2)]
        z, y, x = ((False, True) if self.count >= least else (False,) for least in (COUNTS[3], COUNTS[1], COUNTS[1]))
        return [Orientation(triple(order), flips) for order in orders for flips in itertools.product(z, y, x)]

    def __str__(self) -> str:
        return f"{self.count}:{self.combine}"


NO_AUGMENTATION = Augmentation()


class Source(NamedTuple):
    """Where an affinity of a turned window is: its channel, and the shift in voxels after it is turned back."""

    channel: int
    shift: Triple


def parse_augmentation(text: str) -> Augmentation:
    """Return the augmentation for `4`, `8`, `16`, `8:minimum` and the like; 1 is none. Raises InputError otherwise."""
    count, _, combine = text.partition(":")
    if count in map(str, COUNTS) and (combine or MEAN) in (MEAN, MINIMUM):
        return Augmentation(int(count), combine or MEAN)
    raise InputError(
        f"--tta {text!r} is unknown (valid: {', '.join(map(str, COUNTS))})",
        hint="add :minimum to keep the lowest affinity instead of the mean, for example --tta 8:minimum",
    )


def sources(orientation: Orientation, offsets: Sequence[Triple]) -> list[Source]:
    """Return where the affinity of each offset is after a turn. Raises InputError if it is not predicted."""
    found = []
    for offset in offsets:
        turned = orientation.turned(offset)
        opposite = triple([-step for step in turned])
        if turned in offsets:
            found.append(Source(list(offsets).index(turned), (0, 0, 0)))
        elif opposite in offsets:
            found.append(Source(list(offsets).index(opposite), offset))
        else:
            raise InputError(
                f"the model has no offset {turned} or {opposite}, which offset {offset} becomes in another orientation",
                hint="use --tta 4, or omit --tta",
            )
    return found


def check_augmentation(
    augmentation: Augmentation, offsets: Sequence[Triple], window: Triple, free: Sequence[int], blend: str
) -> None:
    """Raise InputError if the windows of a model cannot be turned.

    `free`: voxels of context on each side of a tile that the network returns.
    """
    if augmentation.count == 1:
        return
    if blend == "gaussian":
        raise InputError("--tta needs tiles with context, found blend gaussian", hint="add --blend centre")
    turns = augmentation.orientations()
    if any(turn.permutation != (0, 1, 2) for turn in turns) and window[1] != window[2]:
        raise InputError(
            f"--tta {augmentation.count} exchanges y and x, but the windows of the model have {window} voxels",
            hint="use --tta 4",
        )
    needed = [max(abs(source.shift[axis]) for turn in turns for source in sources(turn, offsets)) for axis in range(3)]
    if any(have < need for have, need in zip(free, needed, strict=True)):
        raise InputError(
            f"--tta {augmentation.count} needs {tuple(needed)} voxels around each tile, but the network returns only "
            f"{tuple(free)}",
            hint="increase context_voxels in the card of the model, or omit --tta",
        )


def turned(tensor: torch.Tensor, orientation: Orientation) -> torch.Tensor:
    """Return a tensor `(..., z, y, x)` in another orientation."""
    lead = list(range(tensor.ndim - 3))
    flipped = [len(lead) + axis for axis, flip in enumerate(orientation.flips) if flip]
    moved = tensor.permute(*lead, *(len(lead) + axis for axis in orientation.permutation))
    return moved.flip(flipped) if flipped else moved


def turned_back(tensor: torch.Tensor, orientation: Orientation) -> torch.Tensor:
    """Return a turned tensor `(..., z, y, x)` in the orientation of the volume."""
    lead = list(range(tensor.ndim - 3))
    flipped = [len(lead) + axis for axis, flip in enumerate(orientation.flips) if flip]
    inverse = [orientation.permutation.index(axis) for axis in range(3)]
    return (tensor.flip(flipped) if flipped else tensor).permute(*lead, *(len(lead) + axis for axis in inverse))

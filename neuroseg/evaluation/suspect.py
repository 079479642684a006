"""A place to inspect: an error that ground truth shows, or a decision of the merge tree that may be wrong."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, SupportsInt

import numpy as np
from numpy.typing import NDArray

from neuroseg.geometry import Nanometres, Triple
from neuroseg.volumes.placement import CENTRE
from neuroseg.volumes.volume import Volume

# Errors that ground truth shows.
SPLIT, MERGE = "split", "merge"
# Suspects from the merge tree.
DOUBTFUL_MERGE, DOUBTFUL_SPLIT, SMALL_CONTACT, END = "doubtful merge", "doubtful split", "small contact", "end"


@dataclass(frozen=True)
class Suspect:
    """A place to inspect. Positions are (z, y, x) in voxels of the segmentation and in nm (None without a voxel size).

    - `kind`: `split` or `merge` (errors), or `doubtful merge`, `doubtful split`, `small contact` or `end` (suspects).
    - `bits`: share of VOI split or VOI merge of an error. Weight of a suspect on the same scale: change of the VOI if
      the decision is wrong, times a factor from 0 to 1 that is low for unlikely suspects.
    - `place_voxels` is a voxel of `segments[0]`, also of `truth[0]` and `fragments[0]` if these are known.
      `other_voxels` is a voxel on the other side of the contact, or None if no contact is known. It belongs to the
      last of `segments`, `truth` and `fragments`.
    - `segments`, `truth`, `fragments`: the ids on both sides, or a single id if both sides have the same one.
    - `score`: the score of the merge in the tree, if the suspect is a merge of the tree.
    """

    kind: str
    bits: float
    place_voxels: Triple
    place_nm: Nanometres | None
    segments: tuple[int, ...]
    truth: tuple[int, ...] = ()
    fragments: tuple[int, ...] = ()
    score: float | None = None
    description: str = ""
    other_voxels: Triple | None = None
    other_nm: Nanometres | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


def position_nm(volume: Volume, voxel: Triple | None) -> Nanometres | None:
    """Return the centre of a voxel in nm, in the coordinates of the volume's file. None without a voxel size."""
    if voxel is None or volume.voxel_size_nm is None:
        return None
    shift = 0.0 if volume.convention == CENTRE else 0.5
    axes = zip(volume.offset_nm, voxel, volume.voxel_size_nm, strict=True)
    z, y, x = (offset + (index + shift) * size for offset, index, size in axes)
    return (z, y, x)


def joining_bits(one: NDArray[np.integer], other: NDArray[np.integer], total_voxels: int) -> NDArray[np.float64]:
    """Return the change of VOI split or merge, in bits, if parts of `one` and `other` voxels (above 0) are joined.

    With n = one + other: (one log2(n / one) + other log2(n / other)) / total. By the chain rule of entropy, joining the
    parts of an object step by step gives the contribution of the object to the VOI.
    """
    smaller = np.minimum(one, other).astype(np.float64)
    larger = np.maximum(one, other).astype(np.float64)
    # log1p keeps the bits of a small part beside a very large one.
    bits: NDArray[np.float64] = smaller * np.log2((smaller + larger) / smaller)
    bits += larger * np.log1p(smaller / larger) / np.log(2)
    return bits / total_voxels


def distinct(*ids: int) -> tuple[int, ...]:
    """Return the ids in their order, without repetitions."""
    return tuple(dict.fromkeys(int(each) for each in ids))


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, such as `1 voxel` or `2 voxels`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def plain(voxel: Iterable[SupportsInt]) -> Triple:
    """Return a position as three Python integers."""
    z, y, x = (int(index) for index in voxel)
    return (z, y, x)

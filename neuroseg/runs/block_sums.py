"""Sums over the blocks of a lattice, axis by axis, because a volume can have more blocks than memory can list.

blocks along z, y and x  ->  the number of blocks, their voxels, the voxels that they read, the share inside a mask
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from neuroseg.blocks import Block, Lattice

Length = Callable[[int, int, int], int]
"""length(axis, begin, end) of a block that covers begin to end along an axis."""

# A lattice of more blocks is sampled, not listed.
_MOST_LISTED, _SAMPLED = 4096, 1024
# Multiples of it, modulo 1, are spread evenly.
_GOLDEN = 0.618


@dataclass(frozen=True)
class Inside:
    """The share of the blocks of a lattice inside its mask, and of their voxels. Without a mask, 1."""

    blocks: float = 1.0
    voxels: float = 1.0


def block_count(lattice: Lattice) -> int:
    """Return the number of blocks that touch the region. Blocks outside a mask count."""
    return summed(lattice, lambda axis, begin, end: 1)


def voxel_count(lattice: Lattice) -> int:
    """Return the number of voxels of the blocks. Blocks outside a mask count."""
    return summed(lattice, lambda axis, begin, end: end - begin)


def summed(lattice: Lattice, length: Length) -> int:
    """Return the sum over all blocks of the product of their lengths along z, y and x. 0 for an empty region."""
    return math.prod(sum(length(axis, *ends) for ends in _cuts(lattice, axis)) for axis in range(3))


def read_length(lattice: Lattice, halo: Sequence[int]) -> Length:
    """Return the length of what a block reads: itself and its halo, clipped to the region."""
    low, high = tuple(lattice.roi.begin), tuple(lattice.roi.end)
    return lambda axis, begin, end: int(min(end + halo[axis], high[axis]) - max(begin - halo[axis], low[axis]))


def largest(lattice: Lattice, length: Length) -> int:
    """Return the product of the largest lengths along z, y and x: the size of the largest block."""
    return math.prod(max((length(axis, *ends) for ends in _cuts(lattice, axis)), default=0) for axis in range(3))


def spread_blocks(lattice: Lattice, most: int) -> list[Block]:
    """Return up to `most` different blocks inside the mask, spread over the region. The first one lies in its middle.

    Of a lattice with more than 4096 blocks, only 1024 random ones are considered.
    """
    candidates = list(_candidates(lattice))
    wanted = [block for block in candidates if lattice.is_wanted(block)]
    count = len(wanted)
    step = max(1, round(count * _GOLDEN))
    while math.gcd(step, max(1, count)) > 1:
        step += 1
    return [wanted[(count // 2 + n * step) % count] for n in range(min(most, count))]


def inside_mask(lattice: Lattice) -> Inside:
    """Return the shares inside the mask: of all blocks if there are up to 4096, else of 1024 random ones."""
    if lattice.wanted is None:
        return Inside()
    blocks = list(_candidates(lattice))
    within = [block for block in blocks if lattice.is_wanted(block)]
    total = sum(block.voxels for block in blocks)
    return Inside(len(within) / max(1, len(blocks)), sum(block.voxels for block in within) / max(1, total))


def _candidates(lattice: Lattice) -> Iterator[Block]:
    """Yield all blocks of the region, or random different ones if there are too many. The same ones at each call."""
    begins, ends = zip(*(_cells(lattice, axis) for axis in range(3)), strict=True)
    if block_count(lattice) <= _MOST_LISTED:
        indices = lattice.indices_touching(lattice.roi)
    else:
        cells = np.random.default_rng(0).integers(begins, ends, (_SAMPLED, 3))
        indices = list(dict.fromkeys(lattice.index_of([int(at) for at in cell]) for cell in cells))
    yield from map(lattice.block, indices)


def _cells(lattice: Lattice, axis: int) -> tuple[int, int]:
    """Return the first cell along an axis that touches the region, and the end."""
    width = lattice.block_shape[axis]
    return int(lattice.roi.begin[axis]) // width, -(-int(lattice.roi.end[axis]) // width)


def _cuts(lattice: Lattice, axis: int) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each block along an axis, clipped to the region."""
    width, begin, end = lattice.block_shape[axis], int(lattice.roi.begin[axis]), int(lattice.roi.end[axis])
    for cell in range(*_cells(lattice, axis)):
        yield max(cell * width, begin), min(cell * width + width, end)

"""How far a U-Net looks, by following the voxels that one output voxel needs down and up its levels."""

from __future__ import annotations

from dataclasses import dataclass

from neuroseg.geometry import Triple, triple


@dataclass(frozen=True)
class Reach:
    """Radii in voxels of a U-Net's stem, of the block of every level (down and up alike) and of its end; its pooling.

    `levels` counts the bottom.
    """

    levels: int
    pool: Triple
    block: Triple
    stem: Triple = (0, 0, 0)
    end: Triple = (0, 0, 0)


def receptive_context(reach: Reach) -> Triple:
    """Return how many voxels on each side of an output voxel can change it, per axis.

    The side differs with the voxel's place relative to the pooling; the larger of both, at the worst place, counts.
    """
    return triple([_farthest(reach, axis) for axis in range(3)])


def _farthest(reach: Reach, axis: int) -> int:
    pool, block, bottom = reach.pool[axis], reach.block[axis], reach.levels - 1

    def down(level: int, low: int, high: int) -> tuple[int, int]:
        """Return the input that the encoder's features `low..high` of a level need."""
        low, high = low - block, high + block
        if level == 0:
            return low - reach.stem[axis], high + reach.stem[axis]
        return down(level - 1, low * pool, high * pool + pool - 1)

    def up(level: int, low: int, high: int) -> tuple[int, int]:
        """Return the input that the decoder's features `low..high` of a level need (from the bottom, the encoder's)."""
        if level == bottom:
            return down(level, low, high)
        low, high = low - block, high + block
        beside, below = down(level, low, high), up(level + 1, low // pool, high // pool)
        return min(beside[0], below[0]), max(beside[1], below[1])

    ends = [up(0, place - reach.end[axis], place + reach.end[axis]) for place in range(pool**bottom)]
    return max(max(place - low, high - place) for place, (low, high) in enumerate(ends))

"""Receptive field of a U-Net, computed by following the inputs of one output voxel through all levels."""

from __future__ import annotations

from dataclasses import dataclass

from neuroseg.geometry import Triple, triple


@dataclass(frozen=True)
class Reach:
    """Radii in voxels of a U-Net's stem, of the block on each level (encoder and decoder) and of its end.

    `pool` is the pooling factor. `levels` includes the bottom level.
    """

    levels: int
    pool: Triple
    block: Triple
    stem: Triple = (0, 0, 0)
    end: Triple = (0, 0, 0)


def receptive_context(reach: Reach) -> Triple:
    """Return the receptive radius (z, y, x): the largest distance in voxels at which input can change an output voxel.

    The radius depends on the side and on the voxel's position relative to the pooling. The maximum is returned.
    """
    return triple([_farthest(reach, axis) for axis in range(3)])


def _farthest(reach: Reach, axis: int) -> int:
    pool, block, bottom = reach.pool[axis], reach.block[axis], reach.levels - 1

    def down(level: int, low: int, high: int) -> tuple[int, int]:
        """Return the input range needed by the encoder's features `low..high` on a level."""
        low, high = low - block, high + block
        if level == 0:
            return low - reach.stem[axis], high + reach.stem[axis]
        return down(level - 1, low * pool, high * pool + pool - 1)

    def up(level: int, low: int, high: int) -> tuple[int, int]:
        """Return the input range needed by the decoder's features `low..high` on a level (at the bottom: encoder)."""
        if level == bottom:
            return down(level, low, high)
        low, high = low - block, high + block
        skip, below = down(level, low, high), up(level + 1, low // pool, high // pool)
        return min(skip[0], below[0]), max(skip[1], below[1])

    ends = [up(0, place - reach.end[axis], place + reach.end[axis]) for place in range(pool**bottom)]
    return max(max(place - low, high - place) for place, (low, high) in enumerate(ends))

"""The levels of a pyramid, and the passes that compute them.

Axes are halved towards isotropic voxels until the volume is small. A pass reads one level and writes the next ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neuroseg.geometry import Nanometres, Triple, triple

_SMALL_VOXELS = 128
# Below this size, the files of a level would be too many and too small for a viewer.
_LEAST_SHARD_VOXELS = 16
# A block of a pass is at most this many blocks of the run long.
_MOST_BLOCKS = 8


def level_factors(shape: Triple, voxel_size_nm: Nanometres) -> list[Triple]:
    """Return the downsampling factors of each level relative to the previous one. Empty for a small volume.

    An axis is halved unless its voxel edge is at least 1.5 times the shortest edge, or the axis has one voxel. The last
    level has no axis longer than 128 voxels.
    """
    factors: list[Triple] = []
    size, edge = list(shape), list(voxel_size_nm)
    while max(size) > _SMALL_VOXELS:
        halve = [n > 1 and e < 1.5 * min(edge) for n, e in zip(size, edge, strict=True)]
        if not any(halve):
            halve = [n > 1 for n in size]
        factors.append(triple([2 if h else 1 for h in halve]))
        size = [-(-n // f) for n, f in zip(size, factors[-1], strict=True)]
        edge = [e * f for e, f in zip(edge, factors[-1], strict=True)]
    return factors


@dataclass(frozen=True)
class Level:
    """A level that a pass writes. `factors`: downsampling from full resolution. `shard`: in voxels of the level."""

    number: int
    factors: Triple
    shard: Triple


@dataclass(frozen=True)
class LevelsPass:
    """The level that a pass reads, with its downsampling `factors`, and those that it writes.

    Each block of `block_shape`, in voxels of full resolution, covers whole shards of every level.
    """

    source: int
    factors: Triple
    levels: tuple[Level, ...]
    block_shape: Triple


def passes_of(shape: Triple, voxel_size_nm: Nanometres, block_shape: Triple) -> list[LevelsPass]:
    """Return the passes that compute the levels of a volume, in order. Empty for a small volume.

    `block_shape`: the blocks of the run. There is one pass, unless the volume is more than 32 to 64 blocks long.
    """
    totals: list[Triple] = [(1, 1, 1)]
    for step in level_factors(shape, voxel_size_nm):
        totals.append(_times(totals[-1], step))
    sizes = [triple([-(-n // f) for n, f in zip(shape, factors, strict=True)]) for factors in totals]
    passes: list[LevelsPass] = []
    first = 0
    while first < len(totals) - 1:
        last = first + 1
        while last + 1 < len(totals) and _fits(_over(totals[last + 1], totals[first]), sizes[last + 1], block_shape):
            last += 1
        passes.append(_pass_of(totals, first, last, sizes[last], block_shape))
        first = last
    return passes


def _fits(factors: Triple, size: Triple, block_shape: Triple) -> bool:
    """Return whether a block of a pass can cover a shard of a level of `size`, coarser by `factors`."""
    return all(
        factor * least <= _MOST_BLOCKS * block
        for factor, least, block in zip(factors, _least_shard(factors, size), block_shape, strict=True)
    )


def _least_shard(factors: Triple, size: Triple) -> Triple:
    """Return the shape of the smallest shard of a level. Axes that are not downsampled have no limit."""
    return triple([min(_LEAST_SHARD_VOXELS, n) if f > 1 else 1 for f, n in zip(factors, size, strict=True)])


def _pass_of(totals: Sequence[Triple], first: int, last: int, size: Triple, block_shape: Triple) -> LevelsPass:
    """Return the pass from level `first` to level `last`, which has `size` voxels. `totals`: downsampling of each."""
    steps, factors = _over(totals[first + 1], totals[first]), _over(totals[last], totals[first])
    # A block has the voxels of one shard of the first level, or of the smallest shard of the last level.
    coarsest = triple(
        [
            max(-(-block * step // factor), least)
            for block, step, factor, least in zip(block_shape, steps, factors, _least_shard(factors, size), strict=True)
        ]
    )
    whole = _times(coarsest, totals[last])
    levels = [
        Level(number, totals[number], _shard_of(_over(whole, totals[number]), block_shape))
        for number in range(first + 1, last + 1)
    ]
    return LevelsPass(first, totals[first], tuple(levels), whole)


def _shard_of(sizes: Triple, block_shape: Triple) -> Triple:
    """Return the part of a block of a pass that one file contains: halved until it is no longer than a block."""
    shard = []
    for size, block in zip(sizes, block_shape, strict=True):
        while size % 2 == 0 and size > max(block, _LEAST_SHARD_VOXELS):
            size //= 2
        shard.append(size)
    return triple(shard)


def _times(one: Triple, other: Triple) -> Triple:
    return triple([a * b for a, b in zip(one, other, strict=True)])


def _over(one: Triple, other: Triple) -> Triple:
    """Return how many times `one` is a multiple of `other` along each axis."""
    return triple([a // b for a, b in zip(one, other, strict=True)])

"""Blocks: the lattice that cuts a volume into units of work, anchored at the volume's origin."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from funlib.geometry import Roi

from neuroseg.geometry import Triple, triple, whole


@dataclass(frozen=True)
class Block:
    """One unit of work: `index` counts row-major over the whole volume's lattice; regions are in voxels.

    `write_roi` is what this block alone may write; `read_roi` is that plus the stage's halo, clipped to what exists.
    """

    index: int
    write_roi: Roi
    read_roi: Roi


@dataclass(frozen=True)
class Lattice:
    """Cuts `roi`, a part of a volume of `volume_shape`, into blocks of `block_shape`.

    Block faces lie at multiples of `block_shape` from voxel (0, 0, 0), wherever `roi` begins: a block keeps its index
    when the region of interest grows. Its regions are clipped to `roi`, so done marks carry them. Blocks of which
    `wanted` says no (those outside a mask) are left out.
    """

    volume_shape: Triple
    block_shape: Triple
    roi: Roi
    wanted: Callable[[Roi], bool] | None = field(default=None, compare=False)

    @property
    def counts(self) -> Triple:
        """How many blocks the whole volume has along z, y and x."""
        return self._counts

    @cached_property
    def _counts(self) -> Triple:
        return triple([-(-size // width) for size, width in zip(self.volume_shape, self.block_shape, strict=True)])

    @cached_property
    def _bounds(self) -> list[tuple[int, int]]:
        """Where the region of interest begins and ends along each axis."""
        return [(int(begin), int(end)) for begin, end in zip(self.roi.begin, self.roi.end, strict=True)]

    def indices(self) -> list[int]:
        """Return the indices of the wanted blocks that touch the region of interest, ascending."""
        touching = self.indices_touching(self.roi)
        wanted = self.wanted
        return touching if wanted is None else [index for index in touching if wanted(self.block(index).write_roi)]

    def indices_touching(self, roi: Roi) -> list[int]:
        """Return the indices of the volume's blocks that touch `roi`, ascending."""
        roi = roi.intersect(whole(self.volume_shape))
        if roi.empty:
            return []
        ranges = [
            range(begin // width, -(-end // width))
            for begin, end, width in zip(roi.begin, roi.end, self.block_shape, strict=True)
        ]
        return [self.index_of(cell) for cell in itertools.product(*ranges)]

    def index_of(self, cell: Sequence[int]) -> int:
        """Return the index of the block in lattice cell (z, y, x)."""
        counts = self.counts
        return int((cell[0] * counts[1] + cell[1]) * counts[2] + cell[2])

    def block(self, index: int, halo: Sequence[int] = (0, 0, 0)) -> Block:
        """Return block `index` with a halo of that many voxels, clipped to the region of interest."""
        # In plain integers: a large volume has tens of thousands of blocks, and the head makes each of them often.
        (_, rows, columns), bounds = self._counts, self._bounds
        cell = (index // (rows * columns), index // columns % rows, index % columns)
        low = [max(c * s, b) for c, s, (b, _) in zip(cell, self.block_shape, bounds, strict=True)]
        high = [min(c * s + s, e) for c, s, (_, e) in zip(cell, self.block_shape, bounds, strict=True)]
        if any(begin >= end for begin, end in zip(low, high, strict=True)):
            return Block(index, Roi((0, 0, 0), (0, 0, 0)), Roi((0, 0, 0), (0, 0, 0)))
        first = [max(begin - width, b) for begin, width, (b, _) in zip(low, halo, bounds, strict=True)]
        last = [min(end + width, e) for end, width, (_, e) in zip(high, halo, bounds, strict=True)]
        return Block(index, _between(low, high), _between(first, last))

    def blocks(self, halo: Sequence[int] = (0, 0, 0)) -> Iterator[Block]:
        """Yield the wanted blocks that touch the region of interest, by ascending index."""
        for index in self.indices():
            yield self.block(index, halo)


def _between(begin: Sequence[int], end: Sequence[int]) -> Roi:
    return Roi(tuple(begin), tuple(e - b for b, e in zip(begin, end, strict=True)))


def whole_lattice(volume_shape: Sequence[int], block_shape: Sequence[int]) -> Lattice:
    """Return the lattice of a whole volume."""
    return Lattice(triple(volume_shape), triple(block_shape), whole(volume_shape))

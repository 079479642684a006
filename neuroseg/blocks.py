"""Blocks: the units of work that a lattice cuts a volume into. The lattice starts at the volume's origin."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from funlib.geometry import Roi

from neuroseg.geometry import Box, Triple, triple, whole

_EMPTY: Box = ((0, 0), (0, 0), (0, 0))


@dataclass(frozen=True)
class Block:
    """One unit of work. `index` counts row-major over the lattice of the whole volume; regions are in voxels.

    Only this block writes `write_roi`. `read_roi` is `write_roi` grown by the stage's halo and clipped to the region of
    interest. Both are stored as begin and end, which is cheap: a large volume has tens of thousands of blocks, and the
    head creates each of them several times.
    """

    index: int
    write_box: Box
    read_box: Box

    @property
    def write_roi(self) -> Roi:
        """The region that the block writes."""
        return _roi_of(self.write_box)

    @property
    def read_roi(self) -> Roi:
        """The region that the block reads."""
        return _roi_of(self.read_box)

    @property
    def voxels(self) -> int:
        """The number of voxels that the block writes."""
        return math.prod(end - begin for begin, end in self.write_box)


@dataclass(frozen=True)
class Lattice:
    """Cuts `roi`, a part of a volume of `volume_shape`, into blocks of `block_shape`.

    Block faces lie at multiples of `block_shape` from voxel (0, 0, 0), wherever `roi` begins. So a block keeps its
    index when the region of interest grows. Its regions are clipped to `roi`; therefore done marks store them. Blocks
    for which `wanted` returns False (outside a mask) are omitted.
    """

    volume_shape: Triple
    block_shape: Triple
    roi: Roi
    wanted: Callable[[Roi], bool] | None = field(default=None, compare=False)

    @property
    def counts(self) -> Triple:
        """The number of blocks of the whole volume along z, y and x."""
        return self._counts

    @cached_property
    def _counts(self) -> Triple:
        return triple([-(-size // width) for size, width in zip(self.volume_shape, self.block_shape, strict=True)])

    @cached_property
    def _bounds(self) -> list[tuple[int, int]]:
        """Begin and end of the region of interest along each axis."""
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
        """Return block `index` with a halo in voxels, clipped to the region of interest.

        If the block lies outside the region of interest, its regions are empty.
        """
        (_, rows, columns), bounds = self._counts, self._bounds
        cell = (index // (rows * columns), index // columns % rows, index % columns)
        write, read = [], []
        for c, size, width, (begin, end) in zip(cell, self.block_shape, halo, bounds, strict=True):
            low, high = max(c * size, begin), min(c * size + size, end)
            if low >= high:
                return Block(index, _EMPTY, _EMPTY)
            write.append((low, high))
            read.append((max(low - width, begin), min(high + width, end)))
        return Block(index, (write[0], write[1], write[2]), (read[0], read[1], read[2]))

    def blocks(self, halo: Sequence[int] = (0, 0, 0)) -> Iterator[Block]:
        """Yield the wanted blocks that touch the region of interest, by ascending index."""
        reach = [int(width) for width in halo]
        for index in self.indices():
            yield self.block(index, reach)


def _roi_of(box: Box) -> Roi:
    return Roi([begin for begin, _ in box], [end - begin for begin, end in box])


def whole_lattice(volume_shape: Sequence[int], block_shape: Sequence[int]) -> Lattice:
    """Return the lattice of a whole volume."""
    return Lattice(triple(volume_shape), triple(block_shape), whole(volume_shape))

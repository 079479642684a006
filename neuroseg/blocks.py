"""Blocks: the units of work that a lattice cuts a volume into. The lattice starts at the volume's origin."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import overload

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.geometry import Box, Triple, triple, whole

_EMPTY: Box = ((0, 0), (0, 0), (0, 0))
_CREATED_TOGETHER = 4096

Numbers = NDArray[np.int64]
Wanted = Callable[[Numbers, Numbers, Numbers], NDArray[np.bool_]]
"""wanted(z, y, x) returns which cells of a grid are wanted. The arguments `(cells, 2)` are begin and end of the cells
along each axis, in voxels."""


@dataclass(frozen=True)
class Block:
    """One unit of work. `index` counts row-major over the lattice of the whole volume; regions are in voxels.

    Only this block writes `write_roi`. `read_roi` is `write_roi` grown by the stage's halo and clipped to the region of
    interest. Both are stored as begin and end, which is cheap: the head creates each block several times.
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
    wanted: Wanted | None = field(default=None, compare=False)

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

    @cached_property
    def cells(self) -> list[range]:
        """The lattice cells along each axis that touch the region of interest."""
        return self._cells(self.roi)

    @property
    def touching(self) -> int:
        """The number of blocks that touch the region of interest, wanted or not."""
        return math.prod(map(len, self.cells))

    @cached_property
    def _wanted_indices(self) -> Numbers:
        """The indices of the wanted blocks that touch the region of interest, ascending."""
        cells, (_, rows, columns) = self.cells, self._counts
        if self.wanted is None or not self.touching:
            z, y, x = (np.arange(each.start, each.stop, dtype=np.int64) for each in cells)
            every: Numbers = ((z[:, None, None] * rows + y[:, None]) * columns + x).reshape(-1)
            return every
        z, y, x = (self.faces(axis, each)[:, :2] for axis, each in enumerate(cells))
        # Only the wanted cells become numbers of 8 bytes: there may be a hundred times as many others.
        inside: Numbers = np.flatnonzero(self.wanted(z, y, x))
        if (counts := tuple(map(len, cells))) != self._counts:
            z, y, x = (at + each.start for at, each in zip(np.unravel_index(inside, counts), cells, strict=True))
            inside = (z * rows + y) * columns + x
        return inside

    def _cells(self, roi: Roi) -> list[range]:
        """Return the lattice cells along each axis that touch `roi`."""
        roi = roi.intersect(whole(self.volume_shape))
        if roi.empty:
            return [range(0)] * 3
        return [
            range(begin // width, -(-end // width))
            for begin, end, width in zip(roi.begin, roi.end, self.block_shape, strict=True)
        ]

    def indices(self) -> list[int]:
        """Return the indices of the wanted blocks that touch the region of interest, ascending."""
        found: list[int] = self._wanted_indices.tolist()
        return found

    def is_wanted(self, block: Block) -> bool:
        """Return whether a block that touches the region of interest is wanted. Reads only its part of a mask."""
        faces = (np.array([each], np.int64) for each in block.write_box)
        return self.wanted is None or bool(self.wanted(*faces).all())

    def indices_touching(self, roi: Roi) -> list[int]:
        """Return the indices of the volume's blocks that touch `roi`, ascending."""
        return [self.index_of(cell) for cell in itertools.product(*self._cells(roi))]

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

    def faces(self, axis: int, cells: range, width: int = 0) -> Numbers:
        """Return begin and end of `write_box`, then of `read_box` with a halo of `width`, of cells along an axis.

        The cells must touch the region of interest. Shape `(cells, 4)`, in voxels.
        """
        (begin, end), size = self._bounds[axis], self.block_shape[axis]
        first = np.arange(cells.start, cells.stop, dtype=np.int64) * size
        low, high = np.maximum(first, begin), np.minimum(first + size, end)
        return np.stack([low, high, np.maximum(low - width, begin), np.minimum(high + width, end)], axis=1)

    def blocks(self, halo: Sequence[int] = (0, 0, 0)) -> Blocks:
        """Return the wanted blocks that touch the region of interest, by ascending index."""
        return Blocks(self, triple(halo), self._wanted_indices)


class Blocks(Sequence[Block]):
    """Blocks of a lattice by ascending index, with a halo in voxels. They must touch the region of interest.

    Only the indices are stored, 8 bytes a block: a volume may have millions of blocks. A `Block` is created each time
    that it is asked for.
    """

    def __init__(self, lattice: Lattice, halo: Triple, indices: Numbers) -> None:
        self.lattice, self.halo, self.indices = lattice, halo, indices

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, place: int) -> Block: ...
    @overload
    def __getitem__(self, place: slice) -> Blocks: ...
    def __getitem__(self, place: int | slice) -> Block | Blocks:
        if isinstance(place, slice):
            return Blocks(self.lattice, self.halo, self.indices[place])
        return self.lattice.block(int(self.indices[place]), self.halo)

    def __iter__(self) -> Iterator[Block]:
        for begin in range(0, len(self.indices), _CREATED_TOGETHER):
            for index in self.indices[begin : begin + _CREATED_TOGETHER].tolist():
                yield self.lattice.block(index, self.halo)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(mine == its for mine, its in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Blocks({self.indices.tolist()})"

    def where(self, chosen: NDArray[np.bool_]) -> Blocks:
        """Return the blocks for which an array of one value a block is True."""
        return Blocks(self.lattice, self.halo, self.indices[chosen])

    def along(self, axis: int) -> tuple[Numbers, Numbers]:
        """Return the place of each block along an axis, and the faces `(places, 4)` at each place (Lattice.faces)."""
        cells, counts = self.lattice.cells[axis], self.lattice.counts
        step = math.prod(counts[axis + 1 :])
        places = self.indices // step
        if axis:
            places %= counts[axis]
        return places - cells.start, self.lattice.faces(axis, cells, self.halo[axis])

    @property
    def voxels(self) -> int:
        """The number of voxels that all blocks write."""
        sizes = np.ones(len(self), np.int64)
        for axis in range(3):
            places, faces = self.along(axis)
            sizes *= (faces[:, 1] - faces[:, 0])[places]
        return int(sizes.sum())


def voxels_of(blocks: Sequence[Block]) -> int:
    """Return the number of voxels that blocks write."""
    return blocks.voxels if isinstance(blocks, Blocks) else sum(block.voxels for block in blocks)


def chosen(blocks: Sequence[Block], are_chosen: NDArray[np.bool_]) -> Sequence[Block]:
    """Return the blocks for which an array of one value a block is True."""
    if isinstance(blocks, Blocks):
        return blocks.where(are_chosen)
    return [block for block, is_chosen in zip(blocks, are_chosen, strict=True) if is_chosen]


def indices_of(blocks: Sequence[Block]) -> Numbers:
    """Return the indices of blocks, in the given order."""
    if isinstance(blocks, Blocks):
        return blocks.indices
    return np.fromiter((block.index for block in blocks), np.int64, len(blocks))


def _roi_of(box: Box) -> Roi:
    return Roi([begin for begin, _ in box], [end - begin for begin, end in box])


def whole_lattice(volume_shape: Sequence[int], block_shape: Sequence[int]) -> Lattice:
    """Return the lattice of a whole volume."""
    return Lattice(triple(volume_shape), triple(block_shape), whole(volume_shape))

"""The stage `reduction`: the parts of all blocks -> one table per range of fragments, each range made on its own.

A reduce in as many pieces as a large volume has workers for: what follows reads a few tables of sorted rows instead of
one file per block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuroseg.blocks import Block, Lattice
from neuroseg.geometry import describe
from neuroseg.stage import Process
from neuroseg.storage.parts import Keys, part_path, read_range, write_table
from neuroseg.storage.workspace import Workspace, reduced
from neuroseg.tables import TABLES, combined

ALGORITHM = 1
# So few parts are read by one process in a second or two.
_PARTS_OF_A_RANGE = 256
_LARGEST = int(np.iinfo(np.uint64).max)


@dataclass(frozen=True)
class ReductionStage:
    """Combines the rows of all parts whose first key lies in a slab of sections: fragments are named by their voxels.

    `blocks` is the lattice whose parts are read; of the `tables` the edges' stage wrote, those that are needed.
    """

    workspace: Workspace
    blocks: Lattice
    upstream: str
    tables: Sequence[str]

    name = "reduction"
    halo = (0, 0, 0)
    scale = (1, 1, 1)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The tables of the blocks."""
        return tuple(self.tables)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The same tables, a part for each range."""
        return tuple(reduced(table) for table in self.tables)

    @property
    def lattice(self) -> Lattice:
        """Slabs of sections that each hold the blocks of a few hundred parts."""
        depth, (_, rows, columns) = self.blocks.block_shape[0], self.blocks.counts
        layers = max(1, _PARTS_OF_A_RANGE // (rows * columns))
        shape = self.blocks.volume_shape
        return Lattice(shape, (depth * layers, shape[1], shape[2]), self.blocks.roi)

    @property
    def scope(self) -> str:
        """The parts are those of the region of interest."""
        return describe(self.blocks.roi)

    @property
    def identity(self) -> Mapping[str, Any]:
        """What made the parts, and which tables are read."""
        return {"algorithm": ALGORITHM, "edges": self.upstream, "tables": list(self.tables)}

    def prepare(self) -> None:
        """Nothing to create."""

    @contextmanager
    def open(self) -> Iterator[Process]:
        """Yield the reduce of one range."""
        parts = self.blocks.indices()
        known: dict[str, dict[int, Keys | None]] = {table: {} for table in self.tables}

        def process(block: Block) -> None:
            keys, own = self._keys(block), set(self.blocks.indices_touching(block.write_roi))
            for table in self.tables:
                columns, folder = TABLES[table], self.workspace.artifact(table)
                rows = list(read_range(folder, parts, columns, keys, checked=own, known=known[table]))
                write_table(part_path(self.workspace.reduced(table), block.index), combined(rows, columns))

        yield process

    def _keys(self, block: Block) -> tuple[int, int]:
        """Return the first and the last key of a range; the first and last range hold what lies beyond, too."""
        indices, (depth, *plane) = self.lattice.indices(), self.lattice.block_shape
        size = depth * plane[0] * plane[1]
        first = 0 if block.index == indices[0] else block.index * size
        return first, _LARGEST if block.index == indices[-1] else (block.index + 1) * size - 1

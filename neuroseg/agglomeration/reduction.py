"""The stage `reduction`: parts of all blocks -> one table per range of fragments.

Ranges are independent, so workers compute them in parallel. Later stages read a few sorted tables instead of one file
per block.
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
# One process reads this number of parts in a second or two.
_PARTS_OF_A_RANGE = 256
_LARGEST = int(np.iinfo(np.uint64).max)


@dataclass(frozen=True)
class ReductionStage:
    """Combine the rows of all parts whose first key is in a slab of sections. Keys are indices of voxels.

    `blocks`: the lattice of the parts. `tables`: the required tables of the stage `edges`.
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
        """The same tables, with one part per range."""
        return tuple(reduced(table) for table in self.tables)

    @property
    def lattice(self) -> Lattice:
        """Slabs of sections with a few hundred blocks each."""
        depth, (_, rows, columns) = self.blocks.block_shape[0], self.blocks.counts
        layers = max(1, _PARTS_OF_A_RANGE // (rows * columns))
        shape = self.blocks.volume_shape
        return Lattice(shape, (depth * layers, shape[1], shape[2]), self.blocks.roi)

    @property
    def scope(self) -> str:
        """The region of interest, which determines the parts."""
        return describe(self.blocks.roi)

    @property
    def identity(self) -> Mapping[str, Any]:
        """The identity of the parts, and the tables."""
        return {"algorithm": ALGORITHM, "edges": self.upstream, "tables": list(self.tables)}

    def prepare(self) -> None:
        """Do nothing: there is no array to create."""

    @contextmanager
    def open(self) -> Iterator[Process]:
        """Yield the function that combines one range."""
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
        """Return the first and last key of a range. The first and last ranges include all keys outside the lattice."""
        indices, (depth, *plane) = self.lattice.indices(), self.lattice.block_shape
        size = depth * plane[0] * plane[1]
        first = 0 if block.index == indices[0] else block.index * size
        return first, _LARGEST if block.index == indices[-1] else (block.index + 1) * size - 1

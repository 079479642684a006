"""The stages `agglomeration-1`, `agglomeration-2`, ..., `agglomeration`: tables of the blocks -> the merge tree.

edges of blocks -> agglomeration-1 -> ... -> agglomeration
                   merges, fragments,        merges and fragments
                   and what is left open     of the last group

Each stage merges in groups of the groups before (block_groups.py). The last group is the whole region.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroseg.agglomeration.block_groups import (
    COLUMNS,
    closed_fragments,
    group_lattices,
    inner_box,
    merged_edges,
)
from neuroseg.agglomeration.names import MERGE_TREE
from neuroseg.agglomeration.region_rows import Parts, in_memory
from neuroseg.agglomeration.scorings import MEAN, Scoring
from neuroseg.blocks import Block, Lattice
from neuroseg.errors import DamagedError
from neuroseg.geometry import Triple, describe
from neuroseg.stage import Process
from neuroseg.storage.merges import remove_levels
from neuroseg.storage.parts import count_rows, part_path, read_part, remove_parts, write_table
from neuroseg.storage.table_memory import TableMemory
from neuroseg.storage.trees import Place, remove_all
from neuroseg.storage.workspace import MERGES, Workspace, level_table
from neuroseg.tables import NODES, Allocate, Table

ALGORITHM = 3
# Most memory for an edge while a group is merged: scripts/bench_merge_tree.py.
_BYTES_OF_AN_EDGE = 115
# Of an entry of a histogram: keys, order and counts while they are sorted.
_BYTES_OF_A_BIN = 50


@dataclass(frozen=True)
class AgglomerationStage:
    """Merge what is certain in each group of a lattice. `parts`: the lattice of the blocks or groups that it contains.

    `level` counts from 1. `offsets`: those of the affinities whose edges are counted. Tables that need more than
    `memory` are in temporary files in the workspace.
    """

    workspace: Workspace
    parts: Lattice
    lattice: Lattice
    level: int
    is_last: bool
    upstream: str
    scoring: Scoring
    offsets: tuple[Triple, ...]
    memory: TableMemory
    long_range: bool

    halo = (0, 0, 0)

    @property
    def name(self) -> str:
        """`agglomeration-` and the level, or `agglomeration` for the last one."""
        return "agglomeration" if self.is_last else f"agglomeration-{self.level}"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The tables of the blocks, or what the groups before left open."""
        return tuple(self._folders_of_parts().values())

    @property
    def outputs(self) -> tuple[str, ...]:
        """Merges and closed fragments, and what is left open."""
        if self.is_last:
            return (f"{MERGES}/tree.parquet", f"{MERGES}/nodes.parquet")
        own = (level_table(self.level, "tree"), level_table(self.level, "nodes"))
        return (*own, *self._open_folders(self.level).values())

    @property
    def scope(self) -> str:
        """The region of interest: at its border, fragments are closed."""
        return describe(self.lattice.roi)

    @property
    def identity(self) -> Mapping[str, Any]:
        """The identity of the edges, and the scoring."""
        return {
            "algorithm": ALGORITHM,
            "method": MERGE_TREE,
            "edges": self.upstream,
            "scoring": str(self.scoring),
            "long_range": self.long_range,
        }

    def prepare(self) -> None:
        """Remove the tables of groups that are not of this region, and the last group's, which must not look complete.

        The stages of all levels are prepared before any group runs.
        """
        if self.is_last:
            for place in (self.workspace.tree, self.workspace.all_nodes):
                remove_all(place)
            remove_levels(self.workspace, self.level)
            return
        known = set(self.lattice.indices())
        for name in self.outputs:
            remove_parts(self.workspace.artifact(name), lambda index: index not in known)

    @contextmanager
    def open(self) -> Iterator[Process]:
        """Yield the function that merges in one group."""
        known = self.parts.blocks().indices

        def process(group: Block) -> None:
            touched = np.array(self.parts.indices_touching(group.write_roi))
            indices = touched[np.isin(touched, known[_between(known, touched)])].tolist()
            closed = self._close_fragments(group, indices)
            read = partial(self._read, indices)
            tree, left = merged_edges(read, closed, self.scoring, self._allocator)
            self._write(group, {"tree": tree}, left)

        yield process

    def _close_fragments(self, group: Block, indices: Sequence[int]) -> NDArray[np.uint64]:
        """Write the closed and the open fragments of a group. Return the ids of the closed ones."""
        parts = list(self._read(indices, "nodes").read(tuple(NODES)))
        closed, left = closed_fragments(parts, inner_box(group, self.lattice, self.offsets))
        self._write(group, {"nodes": closed}, {"nodes": left})
        return closed["fragment"]

    def _allocator(self, edges: int, bins: int) -> Allocate:
        """Return the function that allocates arrays for numbers of edges and of entries of their histograms."""
        needed = edges * _BYTES_OF_AN_EDGE + bins * _BYTES_OF_A_BIN
        return self.memory.allocator(needed, self.workspace.path, self.lattice.touching)

    def _read(self, indices: Sequence[int], table: str) -> Parts:
        """Return one of the tables of some blocks or groups. Empty if the scoring does not need it."""
        name = self._folders_of_parts().get(table)
        if name is None:
            return in_memory([])
        folder = self.workspace.artifact(name)

        def read(columns: Sequence[str]) -> Iterator[Table]:
            for index in indices:
                yield read_part(folder, index, {column: COLUMNS[table][column] for column in columns})

        return Parts(lambda: sum(count_rows(part_path(folder, index)) for index in indices), read)

    def _write(self, group: Block, done: Mapping[str, Table], left: Mapping[str, Table]) -> None:
        """Write tables of merges or closed fragments, and tables that are left open."""
        for name, table in done.items():
            write_table(self._place(group, name), table)
        if not self.is_last:
            for name, folder in self._open_folders(self.level).items():
                if name in left:
                    write_table(self._part(folder, group), left[name])
        elif any(len(table["u"]) for table in left.values() if "u" in table):
            raise DamagedError(
                "the tables of edges name fragments that the tables of fragments lack",
                hint=f"recompute them: neuroseg segment {self.workspace.path} --restart edges",
            )

    def _place(self, group: Block, table: str) -> Place:
        """Return the file of the merges ("tree") or the closed fragments ("nodes") of a group."""
        if self.is_last:
            return {"tree": self.workspace.tree, "nodes": self.workspace.all_nodes}[table]
        return self._part(level_table(self.level, table), group)

    def _part(self, folder: str, group: Block) -> Place:
        return part_path(self.workspace.artifact(folder), group.index)

    def _folders_of_parts(self) -> dict[str, str]:
        """Return the folder of each table that the contained blocks or groups left."""
        if self.level == 1:
            return {table: table for table in tables_of(self.scoring, long_range=self.long_range)}
        return self._open_folders(self.level - 1)

    def _open_folders(self, level: int) -> dict[str, str]:
        """Return the folder of each table that groups of a level leave."""
        bins = () if self.scoring.percent == MEAN else ("region_bins",)
        tables = (*tables_of(self.scoring, long_range=self.long_range), "regions", *bins)
        return {table: level_table(level, f"open_{table}") for table in tables}


def agglomeration_stages(
    workspace: Workspace,
    blocks: Lattice,
    upstream: str,
    scoring: Scoring,
    offsets: tuple[Triple, ...],
    memory: TableMemory,
    *,
    long_range: bool,
) -> list[AgglomerationStage]:
    """Return the stages that compute the merge tree from the tables of `blocks`, one for each level of groups."""
    lattices = group_lattices(blocks)
    return [
        AgglomerationStage(
            workspace, parts, lattice, level, lattice is lattices[-1], upstream, scoring, offsets, memory, long_range
        )
        for level, (parts, lattice) in enumerate(zip([blocks, *lattices], lattices, strict=False), start=1)
    ]


def tables_of(scoring: Scoring, *, long_range: bool) -> tuple[str, ...]:
    """Return the required tables. Histograms are only required for scorings of every contact."""
    evidence = ("edges", "long_range") if long_range else ("edges",)
    bins = ("bins", "long_range_bins")[: len(evidence)] if scoring.every_contact else ()
    return (*evidence, *bins, "nodes")


def _between(ascending: NDArray[np.int64], values: NDArray[np.int64]) -> slice:
    """Return the part of a column that may equal one of the values."""
    first, last = np.searchsorted(ascending, [values.min(), values.max() + 1])
    return slice(int(first), int(last))

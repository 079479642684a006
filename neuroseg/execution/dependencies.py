"""Determine which blocks can run, with daisy's scheduler in the head. The only file that imports daisy.

The tasks form one daisy pipeline with their real regions. A block can run when all blocks of earlier tasks that its
read region touches are done.

    affinities -> along x -> along y -> fragments     a block of fragments reads 27 blocks of affinities

A halo along several axes becomes one step per axis. The step `along x` of a block is done when its row of three blocks
is done, and so on. The result is the same, but daisy is much faster: for each done block, it checks the square of the
number of neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroseg.blocks import Numbers, indices_of
from neuroseg.execution.task import Task

_NO_TIMEOUT_S = 1e9  # workers.py limits the time of a block

Cells = NDArray[np.bool_]


class Dependencies:
    """Hands out each block of its tasks when it can run. Retries a failed block `retries` times.

    Not thread-safe. The thread that creates it must call `close`.
    """

    def __init__(self, tasks: Sequence[Task], retries: int) -> None:
        import daisy.v2 as daisy

        self._daisy: Any = daisy
        self._held: dict[tuple[str, int], Any] = {}
        self._scheduler: Any = None
        given = [task for task in tasks if task.blocks]
        self._axes = _longest_first(given)
        self._grids = {task.name: _Grid.of(task, self._axes) for task in given}
        self._steps: dict[str, list[str]] = {task.name: [] for task in given}
        if given:
            grids = self._grids.values()
            self._begin = np.min([grid.places.min(0) * grid.size for grid in grids], axis=0)
            self._end = np.max([(grid.places.max(0) + 1) * grid.size for grid in grids], axis=0)
            parts = {name: self._part(grid, retries) for name, grid in self._grids.items()}
            links = [self._link(task, before, parts) for task in given for before in given if task.reads(before)]
            self._scheduler = daisy.Scheduler(reduce(or_, [*links, *parts.values()]))

    def close(self) -> None:
        """Release daisy's compiled objects. Another thread must not do it, as would happen if a traceback kept them."""
        self._held.clear()
        self._scheduler = None

    def acquire(self, task: str) -> int | None:
        """Return the index of a block of a task that can run now, or None."""
        if task not in self._grids:
            return None
        for step in self._steps[task]:
            while (unit := self._scheduler.acquire_block(step)) is not None:
                unit.status = self._daisy.BlockStatus.SUCCESS
                self._scheduler.release_block(unit)
        if (unit := self._scheduler.acquire_block(task)) is None:
            return None
        index = self._index(task, unit)
        self._held[task, index] = unit
        return index

    def release(self, task: str, index: int, *, done: bool) -> None:
        """Record the result of a block: done, or one failed attempt."""
        unit = self._held.pop((task, index))
        unit.status = self._daisy.BlockStatus.SUCCESS if done else self._daisy.BlockStatus.FAILED
        self._scheduler.release_block(unit)

    def _part(self, grid: _Grid, retries: int) -> Any:
        """Return the daisy task of a task. Its halo covers the last axis; the steps cover the others."""
        return self._daisy_task(grid.task.name, grid, self._cells(grid), grid.axes[-1:], retries)

    def _link(self, task: Task, before: Task, parts: dict[str, Any]) -> Any:
        """Return the pipeline from `before` to `task`, with a step for each axis of the halo except the last."""
        grid, later = self._grids[task.name], parts[task.name]
        cells = self._cells(grid)
        links: list[Any] = []
        names: list[str] = []
        for number in reversed(range(len(grid.axes) - 1)):
            axis = grid.axes[number + 1]
            cells = _spread(cells, axis, int(-(-grid.halo[axis] // grid.size[axis])))
            names.insert(0, f"{before.name} -> {task.name} {number}")
            step = self._daisy_task(names[0], grid, cells, grid.axes[number : number + 1], 0)
            links.append(step + later)
            later = step
        self._steps[task.name] += names
        return reduce(or_, [*links, parts[before.name] + later])

    def _daisy_task(self, name: str, grid: _Grid, cells: Cells, axes: Sequence[int], retries: int) -> Any:
        """Return a daisy task over the cells of a grid that are True, with its halo along some axes.

        All daisy tasks cover the same region. Otherwise daisy refuses tasks whose blocks read no block of another.
        """
        size, halo = grid.size, np.zeros(3, np.int64)
        halo[axes] = grid.halo[axes]
        begin, extent = self._begin // size * size - halo, cells.shape * size + 2 * halo
        return self._daisy.Task(
            name,
            total_roi=self._daisy.Roi(begin.tolist(), extent.tolist()),
            read_roi=self._daisy.Roi((-halo).tolist(), (size + 2 * halo).tolist()),
            write_roi=self._daisy.Roi((0, 0, 0), size.tolist()),
            process_function=None,
            read_write_conflict=False,
            max_retries=retries,
            timeout=_NO_TIMEOUT_S,
            skip_mask=~cells,
        )

    def _cells(self, grid: _Grid) -> Cells:
        """Return the cells of a grid in the region of all tasks, True where the task has a block."""
        first, last = self._begin // grid.size, -(-self._end // grid.size)
        cells = np.zeros(last - first, bool)
        cells[tuple((grid.places - first).T)] = True
        return cells

    def _index(self, task: str, unit: Any) -> int:
        grid, begin, cell = self._grids[task], unit.write_roi.begin, [0, 0, 0]
        for place, axis in enumerate(self._axes):
            cell[axis] = begin[place] // grid.widths[place]
        return grid.task.stage.lattice.index_of(cell)


@dataclass(frozen=True)
class _Grid:
    """The blocks of a task for daisy: lengths in voxels of the volume, axes in the order of `_longest_first`.

    `size` is the block shape, `places` the lattice cell of each block, and `axes` are those with a halo.
    """

    task: Task
    size: Numbers
    halo: Numbers
    places: Numbers
    axes: list[int]
    widths: list[int]

    @classmethod
    def of(cls, task: Task, order: Sequence[int]) -> _Grid:
        stage, axes = task.stage, list(order)
        size = np.array(stage.lattice.block_shape, np.int64)[axes]
        halo = np.array(stage.halo, np.int64)[axes]
        indices = indices_of(task.blocks)
        places: Numbers = np.stack(np.unravel_index(indices, stage.lattice.counts), axis=1)
        return cls(task, size, halo, places[:, axes], np.flatnonzero(halo).tolist(), size.tolist())


def _longest_first(tasks: Sequence[Task]) -> list[int]:
    """Return the axes, the one with the most blocks first. Then the fewest blocks wait between two tasks."""
    counts = tasks[0].stage.lattice.counts if tasks else (1, 1, 1)
    return sorted(range(3), key=lambda axis: -counts[axis])


def _spread(cells: Cells, axis: int, reach: int) -> Cells:
    """Return the cells dilated by `reach` along an axis."""
    out = cells.copy()
    along, spread = np.moveaxis(cells, axis, 0), np.moveaxis(out, axis, 0)
    for distance in range(1, reach + 1):
        spread[distance:] |= along[:-distance]
        spread[:-distance] |= along[distance:]
    return out

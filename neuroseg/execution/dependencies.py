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
from functools import reduce
from operator import or_
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroseg.execution.task import Task

_NO_TIMEOUT_S = 1e9  # workers.py limits the time of a block

Cells = NDArray[np.bool_]


class Dependencies:
    """Hands out each block of its tasks when it can run. Retries a failed block `retries` times.

    Not thread-safe. The thread that creates it must call `close`.
    """

    def __init__(self, tasks: Sequence[Task], retries: int) -> None:
        import daisy.v2 as daisy

        given = [task for task in tasks if task.blocks]
        self._daisy: Any = daisy
        self._lattices = {task.name: task.stage.lattice for task in given}
        self._sizes = {task.name: _block_size(task) for task in given}
        self._steps: dict[str, list[str]] = {task.name: [] for task in given}
        self._held: dict[tuple[str, int], Any] = {}
        self._scheduler: Any = None
        if given:
            self._axes = _longest_first(given[0])
            region = _region_of(given)
            parts = {task.name: self._part(task, region, retries) for task in given}
            links = [
                self._link(task, before, parts, region)
                for task in given
                for before in given
                if not set(before.stage.outputs).isdisjoint(task.stage.inputs)
            ]
            self._scheduler = daisy.Scheduler(reduce(or_, [*links, *parts.values()]))

    def close(self) -> None:
        """Release daisy's compiled objects. Another thread must not do it, as would happen if a traceback kept them."""
        self._held.clear()
        self._scheduler = None

    def acquire(self, task: str) -> int | None:
        """Return the index of a block of a task that can run now, or None."""
        if task not in self._lattices:
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

    def _part(self, task: Task, region: NDArray[np.int64], retries: int) -> Any:
        """Return the daisy task of a task. Its halo covers one axis; the steps cover the others."""
        halo, steps = _halo(task), [axis for axis in self._axes if _halo(task)[axis]][:-1]
        halo[steps] = 0
        return self._daisy_task(task.name, task, _cells(task, region), halo, region, retries)

    def _link(self, task: Task, before: Task, parts: dict[str, Any], region: NDArray[np.int64]) -> Any:
        """Return the pipeline from `before` to `task`, with a step for each axis of the halo except the last."""
        axes = [axis for axis in self._axes if _halo(task)[axis]]
        cells, later = _cells(task, region), parts[task.name]
        links: list[Any] = []
        names: list[str] = []
        for number, axis in list(enumerate(axes[:-1]))[::-1]:
            cells = _spread(cells, axes[number + 1], _reach(task, axes[number + 1]))
            halo = np.zeros(3, np.int64)
            halo[axis] = _halo(task)[axis]
            name = f"{before.name} -> {task.name} {number}"
            step = self._daisy_task(name, task, cells, halo, region, 0)
            links.append(step + later)
            names.insert(0, name)
            later = step
        self._steps[task.name] += names
        return reduce(or_, [*links, parts[before.name] + later])

    def _daisy_task(
        self, name: str, task: Task, cells: Cells, halo: NDArray[np.int64], region: NDArray[np.int64], retries: int
    ) -> Any:
        """Return a daisy task over the cells of a task's lattice in a region. Cells that are False are skipped.

        All daisy tasks cover the same region. Otherwise daisy refuses tasks whose blocks read no block of another.
        """
        size, order = np.array(_block_size(task)), list(self._axes)
        begin, width, reach = (region[0] // size * size - halo)[order], size[order], halo[order]
        extent = (cells.shape * size + 2 * halo)[order]
        return self._daisy.Task(
            name,
            total_roi=self._daisy.Roi(begin.tolist(), extent.tolist()),
            read_roi=self._daisy.Roi((-reach).tolist(), (width + 2 * reach).tolist()),
            write_roi=self._daisy.Roi((0, 0, 0), width.tolist()),
            process_function=None,
            read_write_conflict=False,
            max_retries=retries,
            timeout=_NO_TIMEOUT_S,
            skip_mask=~cells.transpose(order),
        )

    def _index(self, task: str, unit: Any) -> int:
        begin, cell = unit.write_roi.begin, [0, 0, 0]
        for place, axis in enumerate(self._axes):
            cell[axis] = begin[place] // self._sizes[task][axis]
        return self._lattices[task].index_of(cell)


def _longest_first(task: Task) -> tuple[int, ...]:
    """Return the axes, the one with the most blocks first. Then the fewest blocks wait between two tasks."""
    counts = task.stage.lattice.counts
    return tuple(sorted(range(3), key=lambda axis: -counts[axis]))


def _block_size(task: Task) -> list[int]:
    """Return the block shape of a task in voxels of the volume."""
    return [n * s for n, s in zip(task.stage.lattice.block_shape, task.stage.scale, strict=True)]


def _halo(task: Task) -> NDArray[np.int64]:
    """Return the halo of a task in voxels of the volume."""
    return np.array(task.stage.halo, np.int64) * task.stage.scale


def _reach(task: Task, axis: int) -> int:
    """Return the number of blocks that the halo of a task spans along an axis."""
    return -(-int(_halo(task)[axis]) // _block_size(task)[axis])


def _places(task: Task) -> NDArray[np.int64]:
    """Return the lattice cells (z, y, x) of a task's blocks."""
    _, rows, columns = task.stage.lattice.counts
    indices = np.fromiter((block.index for block in task.blocks), np.int64, len(task.blocks))
    return np.stack([indices // (rows * columns), indices // columns % rows, indices % columns], axis=1)


def _region_of(tasks: Sequence[Task]) -> NDArray[np.int64]:
    """Return the begin and end of the blocks of all tasks, in voxels of the volume: shape `(2, 3)`."""
    begins = [_places(task).min(0) * _block_size(task) for task in tasks]
    ends = [(_places(task).max(0) + 1) * _block_size(task) for task in tasks]
    return np.stack([np.min(begins, axis=0), np.max(ends, axis=0)])


def _cells(task: Task, region: NDArray[np.int64]) -> Cells:
    """Return the cells of a task's lattice in a region, True where the task has a block."""
    size = np.array(_block_size(task))
    first, last = region[0] // size, -(-region[1] // size)
    cells = np.zeros(last - first, bool)
    cells[tuple((_places(task) - first).T)] = True
    return cells


def _spread(cells: Cells, axis: int, reach: int) -> Cells:
    """Return the cells dilated by `reach` along an axis."""
    out = cells.copy()
    along, spread = np.moveaxis(cells, axis, 0), np.moveaxis(out, axis, 0)
    for distance in range(1, reach + 1):
        spread[distance:] |= along[:-distance]
        spread[:-distance] |= along[distance:]
    return out

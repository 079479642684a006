"""Which blocks can be done: daisy's scheduler, within the head. The one file that imports daisy.

The tasks are one pipeline of daisy's, with their real regions: a block can be done once all blocks of the tasks before
that its read region touches are.

    affinities -> along x -> along y -> fragments     a block of fragments needs the 27 blocks around it

A halo along several axes is divided into one step for each: `along x` is done where its row of three is, and so on.
That comes to the same and takes daisy far less: it looks at the square of a block's neighbours whenever one is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroseg.execution.task import Task

_NEVER_S = 1e9  # how long a block may take is ours to say (workers.py)

Cells = NDArray[np.bool_]


class Dependencies:
    """The blocks of tasks, each handed out when it can be done; one that fails comes again, `retries` times.

    For one thread; that which made it calls `close`.
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
        """Let go of what is compiled: another thread must not, as a traceback that lives on would have it."""
        self._held.clear()
        self._scheduler = None

    def acquire(self, task: str) -> int | None:
        """Return the index of a block of a task that can be done now, None where there is none."""
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
        """Note that a block is done, or failed this time."""
        unit = self._held.pop((task, index))
        unit.status = self._daisy.BlockStatus.SUCCESS if done else self._daisy.BlockStatus.FAILED
        self._scheduler.release_block(unit)

    def _part(self, task: Task, region: NDArray[np.int64], retries: int) -> Any:
        """Return daisy's task for a task. Its halo covers one axis; the steps cover the others."""
        halo, steps = _halo(task), [axis for axis in self._axes if _halo(task)[axis]][:-1]
        halo[steps] = 0
        return self._daisy_task(task.name, task, _cells(task, region), halo, region, retries)

    def _link(self, task: Task, before: Task, parts: dict[str, Any], region: NDArray[np.int64]) -> Any:
        """Return the pipeline in which a task reads the one before, by a step for each axis of its halo but one."""
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
        """Return daisy's task over the cells of a task's lattice in a region; those that are False are left out.

        All cover one region, or daisy refuses those whose blocks read nothing of another's.
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
            timeout=_NEVER_S,
            skip_mask=~cells.transpose(order),
        )

    def _index(self, task: str, unit: Any) -> int:
        begin, cell = unit.write_roi.begin, [0, 0, 0]
        for place, axis in enumerate(self._axes):
            cell[axis] = begin[place] // self._sizes[task][axis]
        return self._lattices[task].index_of(cell)


def _longest_first(task: Task) -> tuple[int, ...]:
    """Return the axes, the one with the most blocks first: what lies between two tasks is then the least."""
    counts = task.stage.lattice.counts
    return tuple(sorted(range(3), key=lambda axis: -counts[axis]))


def _block_size(task: Task) -> list[int]:
    """Return the edges of a task's blocks, in voxels of the volume."""
    return [n * s for n, s in zip(task.stage.lattice.block_shape, task.stage.scale, strict=True)]


def _halo(task: Task) -> NDArray[np.int64]:
    """Return a task's halo in voxels of the volume."""
    return np.array(task.stage.halo, np.int64) * task.stage.scale


def _reach(task: Task, axis: int) -> int:
    """Return how many blocks a task's halo reaches into, along an axis."""
    return -(-int(_halo(task)[axis]) // _block_size(task)[axis])


def _places(task: Task) -> NDArray[np.int64]:
    """Return the lattice cells (z, y, x) of a task's blocks."""
    _, rows, columns = task.stage.lattice.counts
    indices = np.fromiter((block.index for block in task.blocks), np.int64, len(task.blocks))
    return np.stack([indices // (rows * columns), indices // columns % rows, indices % columns], axis=1)


def _region_of(tasks: Sequence[Task]) -> NDArray[np.int64]:
    """Return where the blocks of all tasks begin and end, in voxels of the volume: `(2, 3)`."""
    begins = [_places(task).min(0) * _block_size(task) for task in tasks]
    ends = [(_places(task).max(0) + 1) * _block_size(task) for task in tasks]
    return np.stack([np.min(begins, axis=0), np.max(ends, axis=0)])


def _cells(task: Task, region: NDArray[np.int64]) -> Cells:
    """Return which cells of a task's lattice in a region hold a block of it."""
    size = np.array(_block_size(task))
    first, last = region[0] // size, -(-region[1] // size)
    cells = np.zeros(last - first, bool)
    cells[tuple((_places(task) - first).T)] = True
    return cells


def _spread(cells: Cells, axis: int, reach: int) -> Cells:
    """Return the cells and those up to `reach` before and after them along an axis."""
    out = cells.copy()
    along, spread = np.moveaxis(cells, axis, 0), np.moveaxis(out, axis, 0)
    for distance in range(1, reach + 1):
        spread[distance:] |= along[:-distance]
        spread[:-distance] |= along[distance:]
    return out

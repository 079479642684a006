"""Which block comes next, and how often it may be tried: daisy's scheduler, within the head. The one file that imports
daisy.

The tasks are one pipeline of daisy's, with their real regions: a block comes once every block of earlier tasks that its
read region touches is done. Every block is deterministic and atomic, because one may be done twice: a worker that was
given up may still write.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuroseg.blocks import Block
from neuroseg.execution.task import Task

RETRIES = 2
_HOPELESS = 100
_NEVER_S = 1e9  # how long a block may take is ours to say (workers.py)


class Key(NamedTuple):
    """A block of a stage."""

    stage: str
    number: int


@dataclass(frozen=True)
class Unit:
    """A block that is handed out. `early`: not all blocks of the tasks that its stage reads of are done."""

    key: Key
    block: Block
    early: bool


@dataclass
class _Progress:
    """What became of a task; `next` are blocks that can be handed out."""

    task: Task
    reads: list[str]
    blocks: dict[int, Block]
    done: set[int] = field(default_factory=set)
    failed_once: set[int] = field(default_factory=set)
    next: list[int] = field(default_factory=list)


class Schedule:
    """The blocks of some tasks; one that fails comes again, `retries` times.

    For one thread; that which made it leaves its context.
    """

    def __init__(self, tasks: Sequence[Task], retries: int = RETRIES) -> None:
        import daisy.v2 as daisy

        self._daisy: Any = daisy
        axes, given = _longest_first(tasks), [task for task in tasks if task.blocks]
        region = _region_of(given)
        parts = {task.name: _daisy_task(daisy, task, region, axes, retries) for task in given}
        links = [parts[name] + parts[task.name] for task in given for name in _read_by(task, given)]
        self._scheduler: Any = daisy.Scheduler(reduce(or_, [*links, *parts.values()])) if parts else None
        self._axes = axes
        self._tasks = {
            task.name: _Progress(task, _read_by(task, tasks), {b.index: b for b in task.blocks}) for task in tasks
        }
        self._held: dict[Key, Any] = {}
        self._handed: set[Key] = set()
        self._put_off: dict[Key, list[Key]] = defaultdict(list)
        self._missed: set[tuple[Key, int]] = set()
        self._insisted: set[Key] = set()
        self._look()

    def __enter__(self) -> Schedule:
        return self

    def __exit__(self, *_: object) -> None:
        # What is compiled must not be let go by another thread, as a traceback that lives on would have it.
        self._held.clear()
        self._scheduler = None

    def is_ready(self, stage: str) -> bool:
        """Return whether a block of a stage can be handed out."""
        return bool(self._tasks[stage].next)

    def next(self, stage: str) -> Unit | None:
        """Return the next block of a stage, None where none can be done now."""
        progress = self._tasks[stage]
        if not progress.next:
            return None
        key = Key(stage, progress.next.pop())
        self._handed.add(key)
        self._look()
        early = key not in self._insisted and any(self.left(name) for name in progress.reads)
        return Unit(key, progress.blocks[key.number], early)

    def take_back(self, key: Key, *, done: bool) -> None:
        """Note that a block that was handed out is done, or failed this time."""
        progress = self._tasks[key.stage]
        self._handed.discard(key)
        self._release(key, done=done)
        if done:
            progress.done.add(key.number)
            for waiting in self._put_off.pop(key, ()):
                self._tasks[waiting.stage].next.append(waiting.number)
            if key.number not in progress.failed_once:
                progress.task.done(progress.blocks[key.number])
        else:
            progress.failed_once.add(key.number)
        self._look()

    def put_off(self, key: Key, artifact: str, index: int) -> None:
        """Take back a block that needs what a block of an earlier task has yet to write to an artifact.

        It comes again when that is done. Where it already was, it has just become so, and the block comes again at
        once; the second time that the same part is missing counts as a failure.
        """
        self._handed.discard(key)
        makers = [name for name, each in self._tasks.items() if artifact in each.task.stage.outputs]
        waited_for = Key(makers[0], index) if makers else key
        maker = self._tasks[waited_for.stage]
        if index in maker.blocks and index not in maker.done and makers:
            self._put_off[waited_for].append(key)
        else:
            if (key, index) in self._missed:
                self._insisted.add(key)
            self._missed.add((key, index))
            self._tasks[key.stage].next.append(key.number)

    def done(self, stage: str) -> int:
        """Return how many blocks of a stage are done."""
        return len(self._tasks[stage].done)

    def failed(self, stage: str) -> int:
        """Return how many blocks of a stage are given up."""
        return int(self._scheduler.task_states[stage].failed_count) if self._tasks[stage].blocks else 0

    def left(self, stage: str) -> int:
        """Return how many blocks of a stage are neither done nor given up."""
        return len(self._tasks[stage].blocks) - self.done(stage) - self.failed(stage)

    @property
    def is_over(self) -> bool:
        """Whether nothing is handed out and nothing can be: what is left needs blocks that are given up."""
        return not self._handed and not any(progress.next for progress in self._tasks.values())

    def _look(self) -> None:
        """Have a block of each task at hand, where one can be done: daisy notices by this what has become possible.

        Where very many of a task failed and none is done, it is not chance: what failed is not tried again.
        """
        for name, progress in self._tasks.items():
            while progress.blocks and not progress.next:
                unit = self._scheduler.acquire_block(name)
                if unit is None:
                    break
                key = Key(name, self._index(progress.task, unit))
                self._held[key] = unit
                if key.number not in progress.failed_once or progress.done or len(progress.failed_once) < _HOPELESS:
                    progress.next.append(key.number)
                else:
                    self._release(key, done=False)

    def _release(self, key: Key, *, done: bool) -> None:
        unit = self._held.pop(key)
        unit.status = self._daisy.BlockStatus.SUCCESS if done else self._daisy.BlockStatus.FAILED
        self._scheduler.release_block(unit)

    def _index(self, task: Task, unit: Any) -> int:
        size = _block_size(task)
        cell = [0, 0, 0]
        for place, axis in enumerate(self._axes):
            cell[axis] = unit.write_roi.begin[place] // size[axis]
        return task.stage.lattice.index_of(cell)


def _read_by(task: Task, tasks: Sequence[Task]) -> list[str]:
    """Return the names of the tasks whose artifacts a task reads."""
    return [each.name for each in tasks if not set(each.stage.outputs).isdisjoint(task.stage.inputs)]


def _longest_first(tasks: Sequence[Task]) -> tuple[int, ...]:
    """Return the axes, the one with the most blocks first: what lies between two tasks is then the least."""
    counts = tasks[0].stage.lattice.counts if tasks else (1, 1, 1)
    return tuple(sorted(range(3), key=lambda axis: -counts[axis]))


def _block_size(task: Task) -> list[int]:
    """Return the edges of a task's blocks, in voxels of the volume."""
    return [n * s for n, s in zip(task.stage.lattice.block_shape, task.stage.scale, strict=True)]


def _cells(task: Task) -> NDArray[np.int64]:
    """Return the lattice cells (z, y, x) of a task's blocks."""
    _, rows, columns = task.stage.lattice.counts
    indices = np.fromiter((block.index for block in task.blocks), np.int64, len(task.blocks))
    return np.stack([indices // (rows * columns), indices // columns % rows, indices % columns], axis=1)


def _region_of(tasks: Sequence[Task]) -> NDArray[np.int64]:
    """Return where the blocks of all tasks begin and end, in voxels of the volume: `(2, 3)`."""
    if not tasks:
        return np.zeros((2, 3), np.int64)
    begins = [_cells(task).min(0) * _block_size(task) for task in tasks]
    ends = [(_cells(task).max(0) + 1) * _block_size(task) for task in tasks]
    return np.stack([np.min(begins, axis=0), np.max(ends, axis=0)])


def _daisy_task(daisy: Any, task: Task, region: NDArray[np.int64], axes: Sequence[int], retries: int) -> Any:
    """Return a task as daisy's: the cells in a region, those without a block left out; axes in the given order.

    All tasks cover one region, or daisy refuses those whose blocks read nothing of another's.
    """
    size = np.array(_block_size(task))
    halo = np.array(task.stage.halo) * task.stage.scale
    first, last = region[0] // size, -(-region[1] // size)
    left_out = np.ones(last - first, bool)
    left_out[tuple((_cells(task) - first).T)] = False
    order = list(axes)
    begin, extent, width, reach = first * size - halo, (last - first) * size + 2 * halo, size[order], halo[order]
    return daisy.Task(
        task.name,
        total_roi=daisy.Roi(begin[order].tolist(), extent[order].tolist()),
        read_roi=daisy.Roi((-reach).tolist(), (width + 2 * reach).tolist()),
        write_roi=daisy.Roi((0, 0, 0), width.tolist()),
        process_function=None,
        read_write_conflict=False,
        max_retries=retries,
        timeout=_NEVER_S,
        skip_mask=left_out.transpose(order),
    )

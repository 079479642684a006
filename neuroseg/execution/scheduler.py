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
from operator import add
from typing import Any, NamedTuple

import numpy as np

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
        axes = _longest_first(tasks)
        parts = [_daisy_task(daisy, task, axes, retries) for task in tasks if task.blocks]
        self._scheduler: Any = daisy.Scheduler(reduce(add, parts)) if parts else None
        self._axes = axes
        self._tasks = {
            task.name: _Progress(task, _read_by(task, tasks), {b.index: b for b in task.blocks}) for task in tasks
        }
        self._held: dict[Key, Any] = {}
        self._handed: set[Key] = set()
        self._put_off: dict[Key, list[Key]] = defaultdict(list)
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

        It comes again when that is done; where it already was, what is missing is looked for once more and then counts
        as a failure.
        """
        self._handed.discard(key)
        makers = [name for name, each in self._tasks.items() if artifact in each.task.stage.outputs]
        waited_for = Key(makers[0], index) if makers else key
        maker = self._tasks[waited_for.stage]
        if index in maker.blocks and index not in maker.done and makers:
            self._put_off[waited_for].append(key)
        else:
            self._insisted.add(key)
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


def _daisy_task(daisy: Any, task: Task, axes: Sequence[int], retries: int) -> Any:
    """Return a task as daisy's: the box around its blocks, of which it leaves out all others; axes in that order."""
    stage, size = task.stage, _block_size(task)
    halo = [n * s for n, s in zip(stage.halo, stage.scale, strict=True)]
    _, rows, columns = stage.lattice.counts
    indices = np.fromiter((block.index for block in task.blocks), np.int64, len(task.blocks))
    cells = np.stack([indices // (rows * columns), indices // columns % rows, indices % columns], axis=1)
    first, last = cells.min(0), cells.max(0)
    left_out = np.ones(last - first + 1, bool)
    left_out[tuple((cells - first).T)] = False
    begin = [int(first[axis]) * size[axis] - halo[axis] for axis in axes]
    extent = [int(last[axis] - first[axis] + 1) * size[axis] + 2 * halo[axis] for axis in axes]
    return daisy.Task(
        task.name,
        total_roi=daisy.Roi(begin, extent),
        read_roi=daisy.Roi([-halo[axis] for axis in axes], [size[axis] + 2 * halo[axis] for axis in axes]),
        write_roi=daisy.Roi((0, 0, 0), [size[axis] for axis in axes]),
        process_function=None,
        read_write_conflict=False,
        max_retries=retries,
        timeout=_NEVER_S,
        skip_mask=left_out.transpose(axes),
    )

"""Choose the next block of each stage, mark its results in the ledger, and count the attempts.

daisy determines which blocks can run (dependencies.py). A block may be processed twice, because a worker that was
dropped may still write. So blocks must be deterministic and their writes atomic.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuroseg.blocks import Block, Numbers, indices_of
from neuroseg.execution.block import Outcome, place_of, record
from neuroseg.execution.dependencies import Dependencies
from neuroseg.execution.task import Task
from neuroseg.geometry import Triple

RETRIES = 2
_MAX_FAILURES_WITHOUT_SUCCESS = 100


class Key(NamedTuple):
    """A block of a stage: the stage's name and the block's index."""

    stage: str
    number: int


@dataclass(frozen=True)
class Unit:
    """A block to process. With `early`, the tasks that its stage reads are not complete yet."""

    key: Key
    block: Block
    early: bool


@dataclass
class _Progress:
    """The state of a task. `next` contains the blocks that can be processed now."""

    task: Task
    reads: list[str]
    done: int = 0
    failures: Counter[int] = field(default_factory=Counter)
    given_up: int = 0
    next: list[int] = field(default_factory=list)

    @cached_property
    def _indices(self) -> Numbers:
        """The blocks of the task, ascending."""
        return np.sort(indices_of(self.task.blocks))

    @cached_property
    def _are_done(self) -> NDArray[np.bool_]:
        return np.zeros(len(self._indices), bool)

    @cached_property
    def _halo(self) -> Triple:
        return self.task.stage.halo

    def block(self, index: int) -> Block:
        """Return a block of the task. It is created each time: a task may have millions."""
        return self.task.stage.lattice.block(index, self._halo)

    def is_left(self, index: int) -> bool:
        """Return whether the task has a block, and it is not done."""
        place = int(np.searchsorted(self._indices, index))
        return place < len(self._indices) and self._indices[place] == index and not self._are_done[place]

    def take_done(self, index: int) -> None:
        """Record that a block is done."""
        self._are_done[np.searchsorted(self._indices, index)] = True
        self.done += 1

    @property
    def may_retry(self) -> bool:
        return bool(self.done) or len(self.failures) < _MAX_FAILURES_WITHOUT_SUCCESS


class Schedule:
    """Hands out the blocks of tasks in an order that their inputs allow. Retries a failed block `retries` times.

    Not thread-safe. The thread that creates it must also leave its context.
    """

    def __init__(self, tasks: Sequence[Task], retries: int = RETRIES) -> None:
        self._dependencies, self._tries = Dependencies(tasks, retries), retries + 1
        self._tasks = {task.name: _Progress(task, [each.name for each in tasks if task.reads(each)]) for task in tasks}
        self._running: set[Key] = set()
        self._postponed: dict[Key, list[Key]] = defaultdict(list)
        self._missed: set[tuple[Key, int]] = set()
        self._missed_twice: set[Key] = set()
        self._fill()

    def __enter__(self) -> Schedule:
        return self

    def __exit__(self, *_: object) -> None:
        self._dependencies.close()

    def is_ready(self, stage: str) -> bool:
        """Return whether a block of a stage can be processed now."""
        return bool(self._tasks[stage].next)

    def is_retried(self, key: Key) -> bool:
        """Return whether an earlier attempt at a block failed."""
        return key.number in self._tasks[key.stage].failures

    def next(self, stage: str, *, retry: bool = True) -> Unit | None:
        """Return the next block of a stage. None if none is ready, or if it failed before and not `retry`."""
        progress = self._tasks[stage]
        if not progress.next or (not retry and progress.next[-1] in progress.failures):
            return None
        key = Key(stage, progress.next.pop())
        self._running.add(key)
        self._fill()
        block = progress.block(key.number)
        progress.task.ledger.mark_begun(block)
        early = key not in self._missed_twice and any(not self._is_whole(name) for name in progress.reads)
        return Unit(key, block, early)

    def take_back(self, key: Key, outcome: Outcome | None) -> None:
        """Record the result of a block: done, or one failed attempt. None: its worker died.

        Raises DiskFullError if the disk is full.
        """
        progress = self._tasks[key.stage]
        task, block = progress.task, progress.block(key.number)
        self._running.discard(key)
        if outcome is None:
            task.ledger.mark_lost(block, f"{place_of(task.stage, block)}: its worker died")
        if outcome is not None and record(outcome, block, task.ledger):
            self._dependencies.release(*key, done=True)
            progress.take_done(key.number)
            for waiting in self._postponed.pop(key, ()):
                self._tasks[waiting.stage].next.append(waiting.number)
            task.done(block, key.number not in progress.failures)
        else:
            self._fail(progress, key.number)
        self._fill()

    def put_off(self, key: Key, artifact: str, index: int) -> None:
        """Postpone a block that reads part `index` of `artifact`, which an earlier task has not written yet.

        The block is retried when that part is done. If the part is already done, it was written in the meantime, and
        the block is retried immediately. If the same part is missing again, the retry is no longer `early` and can
        fail.
        """
        self._running.discard(key)
        postponed = self._tasks[key.stage]
        postponed.task.ledger.mark_postponed(postponed.block(key.number))
        makers = [name for name, each in self._tasks.items() if artifact in each.task.stage.outputs]
        waited_for = Key(makers[0], index) if makers else key
        maker = self._tasks[waited_for.stage]
        if makers and maker.is_left(index):
            self._postponed[waited_for].append(key)
        else:
            if (key, index) in self._missed:
                self._missed_twice.add(key)
            self._missed.add((key, index))
            postponed.next.append(key.number)

    def done(self, stage: str) -> int:
        """Return the number of done blocks of a stage."""
        return self._tasks[stage].done

    def failed(self, stage: str) -> int:
        """Return the number of blocks of a stage that failed in every attempt."""
        return self._tasks[stage].given_up

    def left(self, stage: str) -> int:
        """Return the number of blocks of a stage that are neither done nor given up."""
        return len(self._tasks[stage].task.blocks) - self.done(stage) - self.failed(stage)

    def _is_whole(self, stage: str) -> bool:
        return self.left(stage) + self.failed(stage) == 0

    @property
    def is_over(self) -> bool:
        """Whether no block is running and none can run. The remaining blocks read blocks that were given up."""
        return not self._running and not any(progress.next for progress in self._tasks.values())

    def _fill(self) -> None:
        """Make one block of each task available, if one can be processed.

        If 100 blocks of a task failed and none is done, do not retry failed blocks.
        """
        for name, progress in self._tasks.items():
            while not progress.next and (index := self._dependencies.acquire(name)) is not None:
                if index not in progress.failures or progress.may_retry:
                    progress.next.append(index)
                else:
                    self._fail(progress, index)

    def _fail(self, progress: _Progress, index: int) -> None:
        progress.failures[index] += 1
        progress.given_up += progress.failures[index] == self._tries
        self._dependencies.release(progress.task.name, index, done=False)

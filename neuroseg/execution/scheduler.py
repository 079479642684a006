"""Which block comes next, and how often it may be tried.

daisy decides which blocks can run (dependencies.py). Every block is deterministic and atomic, because one may be done
twice: a worker that was given up may still write.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from neuroseg.blocks import Block
from neuroseg.execution.dependencies import Dependencies
from neuroseg.execution.task import Task

RETRIES = 2
_HOPELESS = 100


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
    """The state of a task. `next` holds the blocks that can be handed out."""

    task: Task
    reads: list[str]
    blocks: dict[int, Block]
    done: set[int] = field(default_factory=set)
    failures: Counter[int] = field(default_factory=Counter)
    given_up: int = 0
    next: list[int] = field(default_factory=list)


class Schedule:
    """The blocks of some tasks; one that fails comes again, `retries` times.

    For one thread; that which made it leaves its context.
    """

    def __init__(self, tasks: Sequence[Task], retries: int = RETRIES) -> None:
        self._dependencies, self._tries = Dependencies(tasks, retries), retries + 1
        self._tasks = {
            task.name: _Progress(task, _read_by(task, tasks), {b.index: b for b in task.blocks}) for task in tasks
        }
        self._handed: set[Key] = set()
        self._put_off: dict[Key, list[Key]] = defaultdict(list)
        self._missed: set[tuple[Key, int]] = set()
        self._insisted: set[Key] = set()
        self._look()

    def __enter__(self) -> Schedule:
        return self

    def __exit__(self, *_: object) -> None:
        self._dependencies.close()

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
        early = key not in self._insisted and any(not self._is_whole(name) for name in progress.reads)
        return Unit(key, progress.blocks[key.number], early)

    def take_back(self, key: Key, *, done: bool) -> None:
        """Note that a block that was handed out is done, or failed this time."""
        progress = self._tasks[key.stage]
        self._handed.discard(key)
        if done:
            self._dependencies.release(*key, done=True)
            progress.done.add(key.number)
            for waiting in self._put_off.pop(key, ()):
                self._tasks[waiting.stage].next.append(waiting.number)
            progress.task.done(progress.blocks[key.number], key.number not in progress.failures)
        else:
            self._fail(progress, key.number)
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
        return self._tasks[stage].given_up

    def left(self, stage: str) -> int:
        """Return how many blocks of a stage are neither done nor given up."""
        return len(self._tasks[stage].blocks) - self.done(stage) - self.failed(stage)

    def _is_whole(self, stage: str) -> bool:
        return len(self._tasks[stage].done) == len(self._tasks[stage].blocks)

    @property
    def is_over(self) -> bool:
        """Whether nothing is handed out and nothing can be: what is left needs blocks that are given up."""
        return not self._handed and not any(progress.next for progress in self._tasks.values())

    def _look(self) -> None:
        """Have a block of each task at hand, where one can be done.

        If 100 blocks of a task failed and none is done, failed blocks are not tried again.
        """
        for name, progress in self._tasks.items():
            while not progress.next and (index := self._dependencies.acquire(name)) is not None:
                if index not in progress.failures or progress.done or len(progress.failures) < _HOPELESS:
                    progress.next.append(index)
                else:
                    self._fail(progress, index)

    def _fail(self, progress: _Progress, index: int) -> None:
        progress.failures[index] += 1
        progress.given_up += progress.failures[index] == self._tries
        self._dependencies.release(progress.task.name, index, done=False)


def _read_by(task: Task, tasks: Sequence[Task]) -> list[str]:
    """Return the names of the tasks whose artifacts a task reads."""
    return [each.name for each in tasks if not set(each.stage.outputs).isdisjoint(task.stage.inputs)]

"""The contract of executors, and the tasks that they run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from neuroseg.blocks import Block
from neuroseg.stage import Stage
from neuroseg.storage.ledger import StageLedger

Observe = Callable[[int, int], None]
"""Told (blocks done, blocks that are given up) of a task, now and then and at its end."""

Begin = Callable[[str, int, int], Observe]
"""begin(stage, blocks to do, their voxels) returns the function that shows what is done."""


def silent(stage: str, blocks: int, voxels: int) -> Observe:
    """Return an observer that shows nothing."""
    return lambda done, failed: None


@dataclass(frozen=True)
class Task:
    """Blocks of a stage that are to be done, and where they are marked.

    `done` is called with each block that is done, and whether that was at the first try: a worker that was given up may
    still be at it otherwise. While `must_wait()` is true, blocks of later tasks go first.
    """

    stage: Stage
    blocks: Sequence[Block]
    ledger: StageLedger
    observe: Observe = lambda done, failed: None
    done: Callable[[Block, bool], None] = lambda block, at_first: None
    must_wait: Callable[[], bool] = lambda: False

    @property
    def name(self) -> str:
        """The stage's name."""
        return self.stage.name


class Executor(Protocol):
    """Runs tasks: each block at least once, in any order that their inputs allow, and marks each in the ledger.

    A later task reads what earlier ones write; one after the other is always right. A block that raises is marked
    failed and stops only those that need it. Returns when no block is left that could be done.
    """

    def run(self, tasks: Sequence[Task]) -> list[int]:
        """Run the tasks; returns for each how many blocks their workers reported as done."""
        ...


Choose = Callable[[Sequence[Task]], Executor]
"""choose(tasks) returns the executor that runs them."""

"""Tasks, and the contract of the executors that run them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from neuroseg.blocks import Block
from neuroseg.stage import Stage
from neuroseg.storage.ledger import StageLedger
from neuroseg.storage.workspace import Workspace

Observe = Callable[[int, int], None]
"""observe(blocks done, blocks given up) is called from time to time and at the end of a task."""

Begin = Callable[[str, int, int], Observe]
"""begin(stage, blocks to process, their voxels) returns the function that shows progress."""


def silent(stage: str, blocks: int, voxels: int) -> Observe:
    """Return an observer that shows nothing."""
    return lambda done, failed: None


@dataclass(frozen=True)
class Task:
    """Blocks of a stage to process, and the ledger that marks them.

    `done` is called with each done block and whether its first attempt succeeded. After a failed attempt, a worker that
    was dropped may still be processing the block. While `must_wait()` returns true, blocks of later tasks go first.
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

    def reads(self, other: Task) -> bool:
        """Return whether the stage reads an artifact that the stage of another task writes."""
        return not set(other.stage.outputs).isdisjoint(self.stage.inputs)

    @cached_property
    def workspace(self) -> Workspace:
        """The workspace of the run."""
        return Workspace(self.ledger.run_folder)


class Executor(Protocol):
    """Processes each block of its tasks at least once and marks it in the ledger: begun, then done or failed.

    Later tasks read the outputs of earlier tasks, so running the tasks one after the other is always correct. A block
    that raises is marked failed. It stops only the blocks that read it.
    """

    def run(self, tasks: Sequence[Task]) -> list[int]:
        """Run the tasks until no further block can be processed. Return the number of done blocks of each task."""
        ...


Choose = Callable[[Sequence[Task]], Executor]
"""choose(tasks) returns the executor that runs the tasks."""

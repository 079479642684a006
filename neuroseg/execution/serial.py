"""The executor `serial`: process one block after the other in this process. The reference for all executors."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from neuroseg.errors import MissingPartError
from neuroseg.execution.block import process_block
from neuroseg.execution.scheduler import Schedule
from neuroseg.execution.task import Task


class SerialExecutor:
    """Opens each stage once and processes the blocks. Blocks of later stages go first as soon as they are ready."""

    def run(self, tasks: Sequence[Task]) -> list[int]:
        """Run the tasks; see execution.task.Executor."""
        with Schedule(tasks, retries=0) as schedule, ExitStack() as opened:
            for task in tasks:
                task.observe(0, 0)
            processes = [opened.enter_context(task.stage.open()) for task in tasks]
            later_first = list(zip(tasks, processes, strict=True))[::-1]
            while not schedule.is_over:
                task, process = next(each for each in later_first if schedule.is_ready(each[0].name))
                unit = schedule.next(task.name)
                assert unit is not None
                try:
                    outcome = process_block(process, unit.block, task.stage, task.workspace, early=unit.early)
                    schedule.take_back(unit.key, outcome)
                except MissingPartError as error:
                    schedule.put_off(unit.key, error.artifact, error.block)
                task.observe(schedule.done(task.name), schedule.failed(task.name))
            return [schedule.done(task.name) for task in tasks]

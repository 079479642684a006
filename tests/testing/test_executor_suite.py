"""Each conformance test for executors fails for an executor with a specific bug."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from neuroseg.blocks import Block
from neuroseg.execution.block import process_block, record
from neuroseg.execution.serial import SerialExecutor
from neuroseg.execution.task import Executor, Task
from neuroseg.storage.workspace import Workspace
from neuroseg.testing.executors import ExecutorTests

Run = Callable[[Sequence[Task]], list[int]]
serial = SerialExecutor().run


def skips_a_block(tasks: Sequence[Task]) -> list[int]:
    serial([replace(task, blocks=task.blocks[1:]) for task in tasks])
    return counts(tasks)


def only_marks(tasks: Sequence[Task]) -> list[int]:
    for task in tasks:
        for block in task.blocks:
            task.ledger.mark_done(block, {})
        task.observe(len(task.blocks), 0)
    return counts(tasks)


def later_tasks_first(tasks: Sequence[Task]) -> list[int]:
    return [serial([task])[0] for task in tasks[::-1]][::-1]


def skips_done_blocks(tasks: Sequence[Task]) -> list[int]:
    serial([replace(task, blocks=task.ledger.pending(task.blocks)) for task in tasks])
    return counts(tasks)


def needs_ascending_blocks(tasks: Sequence[Task]) -> list[int]:
    def ascending(blocks: Sequence[Block]) -> list[Block]:
        return [block for n, block in enumerate(blocks) if all(other.index < block.index for other in blocks[:n])]

    return serial([replace(task, blocks=ascending(task.blocks)) for task in tasks])


def stops_at_a_failure(tasks: Sequence[Task]) -> list[int]:
    done = 0
    for task in tasks:
        with task.stage.open() as process:
            for block in task.blocks:
                if not record(process_block(process, block, task.stage, task.workspace), block, task.ledger):
                    break
                done += 1
        task.observe(done, len(task.blocks) - done)
    return [done]


def hides_failures(tasks: Sequence[Task]) -> list[int]:
    done = serial(tasks)
    for task in tasks:
        task.ledger.clear_failures(task.blocks)
    return done


def marks_nothing(tasks: Sequence[Task]) -> list[int]:
    done = serial(tasks)
    for task in tasks:
        task.ledger.clear(task.blocks)
    return done


def counts_all(tasks: Sequence[Task]) -> list[int]:
    serial(tasks)
    return counts(tasks)


def shows_nothing(tasks: Sequence[Task]) -> list[int]:
    return serial([replace(task, observe=lambda done, failed: None) for task in tasks])


def notes_that_it_ran(tasks: Sequence[Task]) -> list[int]:
    (tasks[0].ledger.run_folder / "ran.txt").touch()
    return serial(tasks)


def counts(tasks: Sequence[Task]) -> list[int]:
    return [len(task.blocks) for task in tasks]


class Suite(ExecutorTests):
    def __init__(self, run: Run) -> None:
        self.run = run

    @contextmanager
    def executor(self, workspace: Workspace) -> Iterator[Executor]:
        yield self  # type: ignore[misc]


BYTES = "test_stages_have_the_bytes_of_the_serial_executor"
FAILED = "test_a_failed_block_stops_no_other_and_is_done_after_the_repair"
CAUGHT = [
    (skips_a_block, BYTES),
    (only_marks, BYTES),
    (marks_nothing, BYTES),
    (shows_nothing, BYTES),
    (later_tasks_first, "test_later_tasks_find_what_earlier_ones_wrote"),
    (needs_ascending_blocks, "test_the_order_of_blocks_does_not_show"),
    (skips_done_blocks, "test_blocks_that_are_done_run_again"),
    (stops_at_a_failure, FAILED),
    (hides_failures, FAILED),
    (counts_all, FAILED),
    (notes_that_it_ran, "test_no_blocks_change_nothing"),
]


@pytest.mark.parametrize(("wrong", "test"), CAUGHT)
def test_a_wrong_executor_is_caught(wrong: Run, test: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        getattr(Suite(wrong), test)(tmp_path)


def test_each_conformance_test_fails_for_some_executor() -> None:
    assert {test for _, test in CAUGHT} == {name for name in dir(ExecutorTests) if name.startswith("test_")}


def test_without_an_executor_the_error_names_the_method_to_override(tmp_path: Path) -> None:
    class Forgetful(ExecutorTests):
        pass

    with pytest.raises(NotImplementedError, match=r"Forgetful must override `executor\(self, workspace\)`"):
        Forgetful().test_no_blocks_change_nothing(tmp_path)

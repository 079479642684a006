"""Each test of the suite of executors catches an executor that is wrong in one way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from neuroseg.blocks import Block
from neuroseg.execution.block import Executor, Observe, process_block
from neuroseg.execution.serial import SerialExecutor
from neuroseg.stage import Stage
from neuroseg.storage.ledger import StageLedger
from neuroseg.storage.workspace import Workspace
from neuroseg.testing.executors import ExecutorTests

Run = Callable[[Stage, Sequence[Block], StageLedger, Observe], int]
serial = SerialExecutor().run


def skips_a_block(stage: Stage, blocks: Sequence[Block], ledger: StageLedger, observe: Observe) -> int:
    return serial(stage, blocks[1:], ledger, observe) + bool(blocks)


def only_marks(stage: Stage, blocks: Sequence[Block], ledger: StageLedger, observe: Observe) -> int:
    for block in blocks:
        ledger.mark_done(block, {})
    observe(len(blocks), 0)
    return len(blocks)


def skips_done_blocks(stage: Stage, blocks: Sequence[Block], ledger: StageLedger, observe: Observe) -> int:
    serial(stage, ledger.pending(blocks), ledger, observe)
    return len(blocks)


def needs_ascending_blocks(stage: Stage, blocks: Sequence[Block], ledger: StageLedger, observe: Observe) -> int:
    ascending = [block for n, block in enumerate(blocks) if all(other.index < block.index for other in blocks[:n])]
    return serial(stage, ascending, ledger, observe)


def stops_at_a_failure(stage: Stage, blocks: Sequence[Block], ledger: StageLedger, observe: Observe) -> int:
    done = 0
    with stage.open() as process:
        for block in blocks:
            if not process_block(process, block, ledger, stage):
                break
            done += 1
    observe(done, len(blocks) - done)
    return done


def hides_failures(stage: Stage, blocks: Sequence[Block], ledger: StageLedger, observe: Observe) -> int:
    done = serial(stage, blocks, ledger, observe)
    ledger.clear_failures(blocks)
    return done


def marks_nothing(stage: Stage, blocks: Sequence[Block], ledger: StageLedger, observe: Observe) -> int:
    done = serial(stage, blocks, ledger, observe)
    ledger.clear(blocks)
    return done


def counts_all(stage: Stage, blocks: Sequence[Block], ledger: StageLedger, observe: Observe) -> int:
    serial(stage, blocks, ledger, observe)
    return len(blocks)


def shows_nothing(stage: Stage, blocks: Sequence[Block], ledger: StageLedger, observe: Observe) -> int:
    return serial(stage, blocks, ledger, lambda done, failed: None)


def notes_that_it_ran(stage: Stage, blocks: Sequence[Block], ledger: StageLedger, observe: Observe) -> int:
    (ledger.run_folder / "ran.txt").touch()
    return serial(stage, blocks, ledger, observe)


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


def test_every_test_of_the_suite_is_seen_to_fail() -> None:
    assert {test for _, test in CAUGHT} == {name for name in dir(ExecutorTests) if name.startswith("test_")}


def test_a_suite_without_an_executor_says_what_to_override(tmp_path: Path) -> None:
    class Forgetful(ExecutorTests):
        pass

    with pytest.raises(NotImplementedError, match=r"Forgetful must override `executor\(self, workspace\)`"):
        Forgetful().test_no_blocks_change_nothing(tmp_path)

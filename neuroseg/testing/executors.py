"""Conformance tests for executors: an executor must give the same bytes as SerialExecutor. Requires pytest."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from neuroseg.blocks import Block
from neuroseg.execution.block import ledger_of
from neuroseg.execution.serial import SerialExecutor
from neuroseg.execution.task import Executor, Task
from neuroseg.stage import Stage
from neuroseg.storage.ledger import StageLedger
from neuroseg.storage.stored import files_of
from neuroseg.storage.workspace import Workspace
from neuroseg.testing.workspaces import (
    blocks_of,
    damaged,
    differing,
    planned_workspace,
    prepared_stage,
    stored_files,
)

_STAGES = ("fragments", "edges")
# Workers may write logs even if there are no blocks.
_LOGS = "logs"


class ExecutorTests:
    """Inherit this class and override `executor`. Then pytest runs these tests with your executor.

        class TestMine(ExecutorTests):
            @contextmanager
            def executor(self, workspace):
                yield MyExecutor(workspace)

    Each test creates a workspace in pytest's `tmp_path`. If your workers run on other machines, use a folder that all
    machines can access: `pytest --basetemp=/shared/folder`.
    """

    def executor(self, workspace: Workspace) -> AbstractContextManager[Executor]:
        """Return a context manager that yields the executor for a workspace, and ends its workers on exit."""
        raise NotImplementedError(f"{type(self).__name__} must override `executor(self, workspace)`")

    def test_stages_have_the_bytes_of_the_serial_executor(self, tmp_path: Path) -> None:
        """One executor runs several stages in sequence. Every block is marked, counted and observed."""
        workspace = planned_workspace(tmp_path)
        with self.executor(workspace) as executor:
            for name in _STAGES:
                work = Work.of(workspace, name)
                result = work.run(executor, work.blocks)
                assert result == Result(len(work.blocks), (len(work.blocks), 0)), name
                assert work.ledger.pending(work.blocks) == []
                assert work.ledger.failures() == {}
                assert differing(work.files, serial_files(name)) == [], name

    def test_later_tasks_find_what_earlier_ones_wrote(self, tmp_path: Path) -> None:
        """Several stages in one call give the same bytes, in any order of their blocks."""
        workspace = planned_workspace(tmp_path)
        works = [Work.of(workspace, name) for name in _STAGES]
        with self.executor(workspace) as executor:
            done = executor.run([Task(work.stage, work.blocks, work.ledger) for work in works])
        assert done == [len(work.blocks) for work in works]
        for name, work in zip(_STAGES, works, strict=True):
            assert work.ledger.pending(work.blocks) == []
            assert differing(work.files, serial_files(name)) == [], name

    def test_the_order_of_blocks_does_not_show(self, tmp_path: Path) -> None:
        """Blocks in random order give the same bytes."""
        workspace = planned_workspace(tmp_path)
        work = Work.of(workspace, "fragments")
        with self.executor(workspace) as executor:
            result = work.run(executor, random.Random(0).sample(work.blocks, len(work.blocks)))
        assert result.returned == len(work.blocks)
        assert work.ledger.pending(work.blocks) == []
        assert differing(work.files, serial_files("fragments")) == []

    def test_blocks_that_are_done_run_again(self, tmp_path: Path) -> None:
        """A done block that is passed to the executor is recomputed: its files may be missing."""
        workspace = planned_workspace(tmp_path)
        work = Work.of(workspace, "fragments")
        with self.executor(workspace) as executor:
            work.run(executor, work.blocks)
            for file in work.files_of(work.blocks[-1]):
                file.unlink()
            assert work.run(executor, work.blocks).returned == len(work.blocks)
        assert work.ledger.pending(work.blocks) == []
        assert differing(work.files, serial_files("fragments")) == []

    def test_a_failed_block_stops_no_other_and_is_done_after_the_repair(self, tmp_path: Path) -> None:
        """It is marked failed with its cause, and counted and observed as failed. It can be retried."""
        workspace = planned_workspace(tmp_path)
        fragments, work = Work.of(workspace, "fragments"), Work.of(workspace, "edges")
        fragments.run(SerialExecutor(), fragments.blocks)
        # `edges` reads lower neighbours, so no other block reads the fragments of the last block. Run this block first.
        bad, others = work.blocks[-1], len(work.blocks) - 1
        files = [file for file in fragments.files_of(bad) if file.suffix != ".parquet"]
        with damaged(files):
            cause = work.cause_of(bad)
        with self.executor(workspace) as executor:
            with damaged(files):
                assert work.run(executor, work.blocks[::-1]) == Result(others, (others, 1))
            assert work.ledger.pending(work.blocks) == [bad]
            failures = work.ledger.failures()
            assert list(failures) == [bad.index]
            assert cause in failures[bad.index]
            assert work.run(executor, [bad]) == Result(1, (1, 0))
        assert work.ledger.pending(work.blocks) == []
        assert work.ledger.failures() == {}
        assert differing(work.files, serial_files("edges")) == []

    def test_no_blocks_change_nothing(self, tmp_path: Path) -> None:
        """Without blocks, only logs are written."""
        workspace = planned_workspace(tmp_path)
        work = Work.of(workspace, "fragments")
        before = _files_below(workspace.path)
        with self.executor(workspace) as executor:
            assert work.run(executor, []) == Result(0, (0, 0))
        assert differing(_files_below(workspace.path), before) == []


@dataclass(frozen=True)
class Result:
    """The value that `run` returned, and the last observed (done, failed)."""

    returned: int
    observed: tuple[int, int]


@dataclass(frozen=True)
class Work:
    """A stage of a planned workspace with its outputs created, and all of its blocks."""

    workspace: Workspace
    stage: Stage
    blocks: Sequence[Block]

    @classmethod
    def of(cls, workspace: Workspace, name: str) -> Work:
        """Return the work of one stage of a planned workspace."""
        stage = prepared_stage(workspace, name)
        return cls(workspace, stage, blocks_of(stage))

    @property
    def ledger(self) -> StageLedger:
        """The marks of the stage."""
        return ledger_of(self.workspace, self.stage)

    @property
    def files(self) -> dict[str, bytes]:
        """The content of every file that the stage stored."""
        return stored_files(self.workspace, self.stage.outputs)

    def files_of(self, block: Block) -> list[Path]:
        """Return the files that a block stored."""
        places = [self.workspace.artifact(name) for name in self.stage.outputs]
        files = [Path(str(file)) for place in places for file in files_of(place, block)]
        return [file for file in files if file.is_file()]

    def run(self, executor: Executor, blocks: Sequence[Block]) -> Result:
        """Run blocks. If nothing is observed, the result contains (0, 0)."""
        observed = [(0, 0)]
        task = Task(self.stage, blocks, self.ledger, lambda done, failed: observed.append((done, failed)))
        (returned,) = executor.run([task])
        return Result(returned, observed[-1])

    def cause_of(self, block: Block) -> str:
        """Return the first line of the cause for which a block fails in this process. Remove its marks."""
        self.run(SerialExecutor(), [block])
        cause = self.ledger.failures()[block.index].splitlines()[0]
        self.ledger.clear([block])
        return cause


@cache
def serial_files(stage: str) -> Mapping[str, bytes]:
    """Return the content of every file of a stage, after SerialExecutor ran it and all earlier stages."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = planned_workspace(Path(folder))
        for name in _STAGES[: _STAGES.index(stage) + 1]:
            work = Work.of(workspace, name)
            work.run(SerialExecutor(), work.blocks)
        return work.files


def _files_below(folder: Path) -> dict[str, bytes]:
    found = {str(file.relative_to(folder)): file for file in folder.rglob("*") if file.is_file()}
    return {name: file.read_bytes() for name, file in found.items() if not name.startswith(f"{_LOGS}/")}

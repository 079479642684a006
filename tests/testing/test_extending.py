"""Conformance tests used outside of the repository: the examples of docs/internals/extending.md pass."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from neuroseg.testing.workspaces import planned_workspace

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "internals" / "extending.md"
WRONG = """
from contextlib import contextmanager
from dataclasses import replace

from neuroseg.execution.serial import SerialExecutor
from neuroseg.testing.executors import ExecutorTests


class SkipsABlock(SerialExecutor):
    def run(self, tasks):
        return super().run([replace(task, blocks=task.blocks[1:]) for task in tasks])


class TestSkipsABlock(ExecutorTests):
    @contextmanager
    def executor(self, workspace):
        yield SkipsABlock()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the example files of the document. The first line of each contains its name."""
    for code in re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL):
        (tmp_path / code.splitlines()[0].removeprefix("# ")).write_text(code)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "boundaries.py", "test_boundaries.py", "test_threads.py", "threads.py", "use.py",
    ]  # fmt: skip
    return tmp_path


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, check=False)


def pytest_in(folder: Path, file: str) -> tuple[int, str, list[str]]:
    """Exit code, output, and the names of the tests that failed."""
    flags = ["-q", "-p", "no:cacheprovider", "-W", "error", f"--basetemp={folder / 'temporary'}"]
    made = run(folder, "-m", "pytest", *flags, file)
    return made.returncode, made.stdout, re.findall(r"^FAILED .*::(\w+)", made.stdout, re.MULTILINE)


@pytest.mark.parametrize(("file", "passed"), [("test_threads.py", 6), ("test_boundaries.py", 11)])
def test_the_examples_of_the_document_pass(folder: Path, file: str, passed: int) -> None:
    code, output, failed = pytest_in(folder, file)
    assert (code, failed) == (0, []), output
    assert f"{passed} passed" in output
    assert f"`pytest {file}` prints `{passed} passed`" in DOCUMENT.read_text()


def test_an_executor_that_skips_a_block_is_caught(folder: Path) -> None:
    (folder / "test_wrong.py").write_text(WRONG)
    code, output, failed = pytest_in(folder, "test_wrong.py")
    assert code == 1, output
    assert len(failed) == 5, "all but the test without blocks"
    assert "returned: 11 != 12" in output


def test_the_example_runs_a_stage_with_its_own_executor(folder: Path) -> None:
    planned_workspace(folder)
    made = run(folder, "use.py")
    assert made.stdout == "12 blocks\n", made.stderr
    assert run(folder, "use.py").stdout == "0 blocks\n"

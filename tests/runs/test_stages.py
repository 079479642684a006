"""The report of failed blocks, its cost, and the workers' reports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from scipy import ndimage

from neuroseg.blocks import Block, Lattice, whole_lattice
from neuroseg.errors import BlocksFailedError, NeurosegError
from neuroseg.execution.serial import SerialExecutor
from neuroseg.runs import pipeline
from neuroseg.runs.options import Options
from neuroseg.runs.stages import Pending, run_stages
from neuroseg.stage import Process
from neuroseg.storage.workspace import Workspace


@dataclass(frozen=True)
class Failing:
    """A stage of many blocks, each of which fails with an `error` whose message `why` gives."""

    lattice: Lattice
    why: Callable[[Block], str]
    error: Callable[[str], Exception] = ValueError

    name = "fragments"
    inputs = ("raw",)
    outputs = ("fragments.zarr",)
    halo = (0, 0, 0)
    identity = {"algorithm": 1}  # noqa: RUF012
    scope = ""

    def prepare(self) -> None:
        """Nothing is written."""

    @contextmanager
    def open(self) -> Iterator[Process]:
        """Yield a function that raises."""

        def process(block: Block) -> None:
            raise self.error(self.why(block))

        yield process


def report(workspace: Workspace, stage: Failing) -> str:
    blocks = list(stage.lattice.blocks())
    with pytest.raises(BlocksFailedError) as failed:
        run_stages(workspace, [stage], [Pending(stage, blocks)], lambda tasks: SerialExecutor(), pipeline.silent)
    return str(failed.value)


def test_one_reason_is_reported_once(tmp_path: Path) -> None:
    stage = Failing(whole_lattice((40, 10, 10), (1, 10, 10)), lambda block: "no such thing")
    message = report(Workspace(tmp_path), stage)
    assert message.startswith(
        "40 blocks of stage fragments failed:\n"
        "  stage fragments, block 0 (0:1,0:10,0:10): ValueError: no such thing (and 39 more: 1, 2, 3, 4, 5, ...)\n"
    )
    assert message.count("no such thing") == 1


def test_different_reasons_are_all_reported(tmp_path: Path) -> None:
    even = {0: "no memory", 2: "no disk"}
    stage = Failing(whole_lattice((4, 10, 10), (1, 10, 10)), lambda block: even.get(block.index, "odd"))
    message = report(Workspace(tmp_path), stage)
    assert "stage fragments, block 1 (1:2,0:10,0:10): ValueError: odd (and 1 more: 3)" in message
    assert "stage fragments, block 0 (0:1,0:10,0:10): ValueError: no memory" in message


def test_reasons_that_differ_only_in_the_voxel_are_one(tmp_path: Path) -> None:
    stage = Failing(whole_lattice((4, 10, 10), (1, 10, 10)), lambda block: f"voxel ({block.index}, 0, 3) is nan")
    message = report(Workspace(tmp_path), stage)
    assert "block 0 (0:1,0:10,0:10): ValueError: voxel (0, 0, 3) is nan (and 3 more: 1, 2, 3)\n" in message
    assert message.count("is nan") == 1
    assert message.endswith("\nhint: run the same command again; it retries only blocks that are not done")


def test_the_hint_of_a_cause_is_reported_once(tmp_path: Path) -> None:
    error = partial(NeurosegError, hint="replace the voxels")
    stage = Failing(whole_lattice((4, 10, 10), (1, 10, 10)), lambda block: f"voxel {block.index} is nan", error)
    message = report(Workspace(tmp_path), stage)
    assert "block 0 (0:1,0:10,0:10): voxel 0 is nan (and 3 more: 1, 2, 3)\n    hint: replace the voxels\n" in message
    assert message.count("replace the voxels") == 1


def test_causes_with_different_hints_are_reported_with_both(tmp_path: Path) -> None:
    def error(message: str) -> NeurosegError:
        return NeurosegError("it fails", hint=message)

    stage = Failing(whole_lattice((4, 10, 10), (1, 10, 10)), lambda block: "ab"[block.index % 2], error)
    message = report(Workspace(tmp_path), stage)
    assert "it fails (and 1 more: 2)\n    hint: a\n" in message
    assert "it fails (and 1 more: 3)\n    hint: b\n" in message


def test_a_hint_of_an_error_in_the_traceback_is_not_reported(tmp_path: Path) -> None:
    def error(message: str) -> ValueError:
        error = ValueError(message)
        error.__cause__ = NeurosegError("its cause", hint="of the cause")
        return error

    message = report(Workspace(tmp_path), Failing(whole_lattice((1, 1, 1), (1, 1, 1)), lambda block: "outer", error))
    assert "outer\n" in message
    assert "of the cause" not in message


def test_many_failures_are_described_and_read_few_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of files that are written and read per block does not depend on the number of failures."""
    count, reads = 600, [0]
    stage = Failing(whole_lattice((count, 10, 10), (1, 10, 10)), lambda block: "no such thing")
    read_text = Path.read_text

    def counting(path: Path, *given: Any, **more: Any) -> str:
        reads[0] += 1
        return read_text(path, *given, **more)

    monkeypatch.setattr(Path, "read_text", counting)
    report(Workspace(tmp_path), stage)
    assert reads[0] < 6 * count
    assert len(list((tmp_path / "failures").iterdir())) == 20


def boundaries(folder: Path, executor: str, output: str = "w") -> Options:
    path = folder / "B.zarr"
    if not path.exists():
        values = ndimage.gaussian_filter(np.random.default_rng(5).random((20, 30, 34)), 1.5)
        values = np.round(255 * (values - values.min()) / np.ptp(values)).astype(np.uint8)
        array = zarr.create_array(str(path), shape=values.shape, dtype="u1", attributes={"voxel_size": [10, 10, 10]})
        array[:] = values
    given = {"boundaries": str(path), "output": str(folder / output), "blocks": "10,16,20", "workers": 2}
    return Options.model_validate({**given, "executor": executor})

"""Workers that die, hang or fail in a block: retries are limited, the other blocks are done, the result is the same."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from scipy import ndimage

from neuroseg.errors import BlocksFailedError
from neuroseg.execution.failures import failure_folder
from neuroseg.runs import pipeline
from neuroseg.runs.options import Options
from neuroseg.storage.arrays import open_array
from neuroseg.storage.workspace import Workspace
from tests.execution.clusters import EXECUTORS

PARALLEL = EXECUTORS[1:]
Inject = Callable[..., Path]


@pytest.fixture(scope="module")
def affinities(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("affinities") / "A.zarr"
    smooth = ndimage.gaussian_filter(np.random.default_rng(7).random((3, 32, 48, 48)), (0, 2, 2, 2))
    values = np.round(255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    attributes = {"offsets": [[-1, 0, 0], [0, -1, 0], [0, 0, -1]], "voxel_size": [10, 10, 10]}
    zarr.create_array(str(path), shape=values.shape, dtype="u1", attributes=attributes)[:] = values
    return str(path)


@pytest.fixture(scope="module")
def expected(affinities: str, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The segmentation of a run without faults."""
    return labels(segment(affinities, tmp_path_factory.mktemp("expected") / "w", executor="serial", blocks="48"))


@pytest.fixture
def inject(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Inject:
    """Inject a fault into workers that start from now on. Return the file that counts the faults."""

    def injected(what: str, stage: str, block: int, times: int = 1000) -> Path:
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "faults"))
        monkeypatch.setenv("FAULT", f"{what}:{stage}:{block}:{times}")
        monkeypatch.setenv("FAULT_COUNT", str(tmp_path / "count"))
        return tmp_path / "count"

    return injected


def segment(affinities: str, output: Path, **more: object) -> Workspace:
    given = {"affinities": affinities, "output": str(output), "blocks": "16", "workers": 2, **more}
    return pipeline.segment(Options.model_validate(given))[0]


def labels(workspace: Workspace) -> np.ndarray:
    return np.asarray(open_array(workspace.segmentation / "0")[:])


@pytest.mark.parametrize("executor", PARALLEL)
@pytest.mark.parametrize("what", ["kill", "raise"])
def test_a_block_that_fails_each_time_is_given_up_and_the_rest_completes(
    affinities: str, expected: np.ndarray, tmp_path: Path, inject: Inject, monkeypatch: pytest.MonkeyPatch,
    executor: str, what: str,
) -> None:  # fmt: skip
    count = inject(what, "fragments", 5)
    with pytest.raises(BlocksFailedError, match=r"1 block of stage fragments failed:\n  stage fragments, block 5"):
        segment(affinities, tmp_path / "w", executor=executor)
    ledger = Workspace(tmp_path / "w").ledger("fragments", {})
    assert len(ledger.done()) == 2 * 3 * 3 - 1
    assert 3 <= len(count.read_text()) <= 7, "tried again twice; where its worker died in company, as often alone"
    message = failure_folder(tmp_path / "w", "fragments", 5) / "traceback.txt"
    assert ("its worker died" if what == "kill" else "ValueError: injected") in message.read_text()
    monkeypatch.delenv("FAULT")
    np.testing.assert_array_equal(labels(segment(affinities, tmp_path / "w", executor="serial")), expected)


def test_a_block_that_kills_its_worker_takes_no_other_along(affinities: str, tmp_path: Path, inject: Inject) -> None:
    """At that moment, the same worker is completing the block before it, in each attempt."""
    count = inject("company", "fragments", 5)
    with pytest.raises(BlocksFailedError, match=r"1 block of stage fragments failed:\n  stage fragments, block 5"):
        segment(affinities, tmp_path / "w", executor="local", workers=1)
    assert len(Workspace(tmp_path / "w").ledger("fragments", {}).done()) == 2 * 3 * 3 - 1
    assert 3 <= len(count.read_text()) <= 7, "tried again twice, and as often alone"


@pytest.mark.parametrize("executor", PARALLEL)
@pytest.mark.parametrize("what", ["kill", "hang"])
def test_a_worker_that_dies_or_hangs_once_costs_its_block_a_retry(
    affinities: str, expected: np.ndarray, tmp_path: Path, inject: Inject, executor: str, what: str
) -> None:
    count = inject(what, "edges", 7, times=1)
    made = segment(affinities, tmp_path / "w", executor=executor, block_timeout=8)
    assert len(count.read_text()) == 2
    np.testing.assert_array_equal(labels(made), expected)


@pytest.mark.parametrize("what", ["rename", pytest.param("ahead", marks=pytest.mark.long), "behind"])
def test_a_disk_or_a_clock_that_fails_once_changes_nothing(
    affinities: str, expected: np.ndarray, tmp_path: Path, inject: Inject, what: str
) -> None:
    count = inject(what, "edges", 7, times=1)
    made = segment(affinities, tmp_path / "w", executor="local")
    assert len(count.read_text()) == (2 if what == "rename" else 1), "a block that could not be renamed is recomputed"
    assert not list((tmp_path / "w").rglob("*.partial*"))
    np.testing.assert_array_equal(labels(made), expected)


@pytest.mark.parametrize("years", [-30, 30])
def test_times_of_files_decide_nothing(affinities: str, tmp_path: Path, years: int) -> None:
    made = segment(affinities, tmp_path / "w", executor="serial")
    expected, when = labels(made), time.time() + years * 365 * 86400
    for path in (tmp_path / "w").rglob("*"):
        os.utime(path, (when, when))
    given = {"affinities": affinities, "output": str(tmp_path / "w"), "blocks": "16", "executor": "serial"}
    again, summaries = pipeline.segment(Options.model_validate(given))
    assert sum(summary.blocks for summary in summaries) == 0
    np.testing.assert_array_equal(labels(again), expected)

"""Our executors pass their suite. Whole runs have the same bytes, even if processes are killed."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from neuroseg.errors import BlocksFailedError
from neuroseg.execution.cluster.dask import DaskConnection
from neuroseg.execution.cluster.site import Cluster
from neuroseg.runs import pipeline
from neuroseg.runs.options import Options
from neuroseg.storage.arrays import open_array
from neuroseg.storage.workspace import Workspace
from tests.conftest import make_volume
from tests.execution.clusters import EXECUTORS, SLURM, ExecutorOfRun, needs_dask


class TestSerial(ExecutorOfRun):
    name = "serial"


class TestLocal(ExecutorOfRun):
    name = "local"


class TestSlurm(ExecutorOfRun):
    name = "slurm"
    pytestmark: ClassVar = list(SLURM)


@needs_dask
class TestDask(ExecutorOfRun):
    name = "dask"

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _one_cluster(cls) -> Iterator[None]:
        with DaskConnection(None, 2) as connection:
            cls.cluster = Cluster(dask_address=connection.client().scheduler.address)
            yield


def options(volume: str, model: str, workspace: Path, **more: object) -> Options:
    return Options.model_validate({"volume": volume, "model": model, "output": str(workspace), "workers": 2, **more})


def arrays(workspace: Workspace) -> dict[str, np.ndarray]:
    paths = (workspace.affinities, workspace.fragments, workspace.segmentation / "0")
    return {str(path.relative_to(workspace.path)): np.asarray(open_array(path)[:]) for path in paths}


@pytest.mark.parametrize("executor", EXECUTORS)
def test_every_executor_gives_the_bytes_of_one_serial_block(
    executor: str, raw_volume: str, tiny_model: str, tmp_path: Path
) -> None:
    whole, _ = pipeline.run(options(raw_volume, tiny_model, tmp_path / "a", blocks="64", executor="serial"))
    cut, summaries = pipeline.run(options(raw_volume, tiny_model, tmp_path / "b", blocks="16,32,48", executor=executor))
    assert summaries[0].blocks == 3 * 2 * 1
    expected = arrays(whole)
    assert len(np.unique(expected["fragments.zarr"])) > 10
    for name, array in arrays(cut).items():
        assert np.array_equal(array, expected[name]), name


# The suite shows that executors on clusters mark the same blocks; the report is made of the marks.
@pytest.mark.parametrize("executor", ["serial", "local"])
def test_a_failing_block_is_reported_and_the_others_are_done(executor: str, tiny_model: str, tmp_path: Path) -> None:
    volume = make_volume(tmp_path / "V.zarr", (96, 20, 20))
    given = options(volume, tiny_model, tmp_path / "w", blocks="16,32,32", executor=executor)
    workspace, _ = pipeline.predict(given)
    # A chunk that no longer decodes fails the blocks that read it, and only those.
    shard = workspace.affinities / "c" / "0" / "0" / "0" / "0"
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2].ljust(len(whole), b"\0"))
    again = Options.model_validate({"volume": str(workspace.path), "executor": executor, "workers": 2})
    with pytest.MonkeyPatch.context() as patch:
        # Otherwise the shard would be found and recomputed.
        patch.setattr("neuroseg.runs.damage._MAX_EXAMINED", 0)
        with pytest.raises(BlocksFailedError, match=r"stage fragments, block 0 \(0:16,0:20,0:20\)"):
            pipeline.segment(again)
    ledger = workspace.ledger("fragments", {})
    assert sorted(ledger.failures()) == [0, 1, 2], "a halo of 18 voxels reaches two blocks of 16"
    assert len(ledger.done()) == 3
    assert not workspace.segmentation.exists()
    shard.write_bytes(whole)
    _, summaries = pipeline.segment(again)
    assert summaries[0].blocks == 3
    assert ledger.failures() == {}


def test_a_worker_begins_a_block_while_it_completes_another(raw_volume: str, tiny_model: str, tmp_path: Path) -> None:
    workspace, _ = pipeline.run(
        options(raw_volume, tiny_model, tmp_path / "w", blocks="16", executor="local", workers=1)
    )

    def overlaps(stage: str) -> list[bool]:
        records = workspace.ledger(stage, {}).records()
        assert len({record["process"] for record in records}) == 1
        spans = sorted((record["time"] - record["seconds"], record["time"]) for record in records)
        return [following[0] < span[1] for span, following in itertools.pairwise(spans)]

    predicted = overlaps("affinities")
    assert sum(predicted) > len(predicted) / 2, "begun while the one before was computed or written"


def test_a_killed_head_and_its_workers_leave_a_run_that_resumes(
    raw_volume: str, tiny_model: str, tmp_path: Path
) -> None:
    expected, _ = pipeline.run(options(raw_volume, tiny_model, tmp_path / "a", blocks="64", executor="serial"))
    workspace = tmp_path / "b"
    command = [
        sys.executable, "-m", "neuroseg", "run", raw_volume, "--model", tiny_model, "-o", str(workspace),
        "--blocks", "16", "--workers", "2",
    ]  # fmt: skip
    head = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    ledger = Workspace(workspace).ledger("affinities", {})
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(ledger.done()) < 3:
        time.sleep(0.02)
    os.killpg(head.pid, signal.SIGKILL)
    head.wait()
    resumed, _ = pipeline.run(options(raw_volume, tiny_model, workspace, blocks="16"))
    for name, array in arrays(resumed).items():
        assert np.array_equal(array, arrays(expected)[name]), name


def processes(workspace: Workspace, stage: str) -> set[int]:
    return {record["process"] for record in workspace.ledger(stage, {}).records()}


def test_one_process_serves_successive_stages(raw_volume: str, tiny_model: str, tmp_path: Path) -> None:
    workspace, _ = pipeline.run(
        options(raw_volume, tiny_model, tmp_path / "w", blocks="16", executor="local", workers=1)
    )
    (worker,) = processes(workspace, "fragments")
    assert worker != os.getpid()
    assert processes(workspace, "edges") == processes(workspace, "relabel") == {worker}
    assert not is_running(worker), "it ends with the run"


def is_running(process: int) -> bool:
    """Whether the process exists and is not a zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(true: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def run_apart(volume: str, model: str, workspace: Path, workers: int) -> subprocess.Popen[bytes]:
    command = [
        sys.executable, "-m", "neuroseg", "run", volume, "--model", model, "-o", str(workspace),
        "--blocks", "16", "--workers", str(workers),
    ]  # fmt: skip
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_worker_costs_nothing_but_time(workers: int, raw_volume: str, tiny_model: str, tmp_path: Path) -> None:
    expected, _ = pipeline.run(options(raw_volume, tiny_model, tmp_path / "a", blocks="64", executor="serial"))
    killed = Workspace(tmp_path / "b")
    with run_apart(raw_volume, tiny_model, killed.path, workers) as head:
        wait_until(lambda: bool(processes(killed, "fragments")))
        victim = processes(killed, "fragments").pop()
        os.kill(victim, signal.SIGKILL)
        assert head.wait() == 0
    assert victim not in processes(killed, "edges")
    for name, array in arrays(killed).items():
        assert np.array_equal(array, arrays(expected)[name]), name


def test_workers_die_with_the_head(raw_volume: str, tiny_model: str, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    with run_apart(raw_volume, tiny_model, workspace.path, workers=2) as head:
        wait_until(lambda: bool(processes(workspace, "fragments")))
        workers = processes(workspace, "fragments")
        head.kill()
    wait_until(lambda: not any(is_running(worker) for worker in workers), seconds=20)

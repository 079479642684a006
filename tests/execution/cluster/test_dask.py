"""Workers as tasks of a real Dask cluster: a scheduler and two workers, one of which is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from neuroseg.errors import NeurosegError
from neuroseg.execution.cluster.site import Cluster, Resources, Site
from neuroseg.runs import pipeline
from neuroseg.runs.options import Options
from neuroseg.storage.workspace import Workspace
from tests.execution.cluster.test_slurm import SHAPE, affinities, expected, segmentation, wait_until
from tests.execution.clusters import needs_dask

pytestmark = needs_dask
__all__ = ["affinities", "expected"]


def started(module: str, *flags: str) -> subprocess.Popen[bytes]:
    line = [sys.executable, "-m", f"distributed.cli.{module}", *flags]
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """The address of a scheduler, and two workers without a nanny, which would restart them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        file = tmp_path / "scheduler.json"
        scheduler = started("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
                            "--scheduler-file", str(file))  # fmt: skip
        wait_until(file.exists)
        flags = ["--scheduler-file", str(file), "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        workers = [started("dask_worker", *flags, "--resources", "GPU=1") for _ in range(2)]
    address = f"tcp://127.0.0.1:{file.read_text().split('tcp://127.0.0.1:')[1].split(chr(34))[0]}"
    yield address, workers
    for process in (*workers, scheduler):
        process.kill()
        process.wait()


def segment(affinities: str, output: Path, cluster: Cluster, **more: object) -> Workspace:
    given = {"affinities": affinities, "output": str(output), "blocks": "16", "executor": "dask", "workers": 2, **more}
    return pipeline.segment(Options.model_validate(given), cluster=cluster)[0]


def test_a_worker_that_is_killed_is_replaced(
    affinities: str, expected: np.ndarray, dask: tuple[str, list[subprocess.Popen[bytes]]], tmp_path: Path
) -> None:
    address, workers = dask
    ledger = Workspace(tmp_path / "w").ledger("fragments", {})
    seen: list[int] = []

    def kill() -> None:
        wait_until(lambda: len({record["process"] for record in ledger.records()}) == 2)
        seen.append(len(ledger.done()))
        os.kill(workers[0].pid, signal.SIGKILL)

    killing = threading.Thread(target=kill)
    killing.start()
    made = segment(affinities, tmp_path / "w", Cluster(dask_address=address))
    killing.join()
    assert seen[0] < 3 * 6 * 6, "killed while there were blocks left"
    np.testing.assert_array_equal(segmentation(made), expected)
    assert expected.shape == SHAPE


def test_only_workers_with_the_resource_are_asked(
    affinities: str, expected: np.ndarray, dask: tuple[str, list[subprocess.Popen[bytes]]], tmp_path: Path
) -> None:
    site = Site(default=Resources(gpus=1))
    made = segment(affinities, tmp_path / "w", Cluster(site, dask[0]), blocks="48")
    np.testing.assert_array_equal(segmentation(made), expected)


def test_a_scheduler_that_is_not_there_is_named(
    affinities: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neuroseg.execution.cluster.dask._CONNECT_TIMEOUT_S", 1)
    began = time.monotonic()
    with pytest.raises(NeurosegError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        segment(affinities, tmp_path / "w", Cluster(dask_address="tcp://127.0.0.1:9"))
    assert time.monotonic() - began < 60

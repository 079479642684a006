"""Workers as jobs of a real SLURM that are cancelled, requeued, drained or left behind: the same bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
import zarr
from scipy import ndimage

from neuroseg.errors import NeurosegError
from neuroseg.execution.block import own_job
from neuroseg.execution.cluster.site import Cluster, Resources, Site
from neuroseg.execution.cluster.slurm import job_name, sbatch_flags
from neuroseg.runs import pipeline
from neuroseg.runs.options import Options
from neuroseg.storage.arrays import open_array
from neuroseg.storage.workspace import Workspace
from tests.execution.clusters import needs_slurm

SHAPE = (48, 96, 96)
HEAD = Path(__file__).parents[3] / "workers" / "slurm" / "head.sbatch"


@pytest.fixture(scope="module")
def affinities(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("affinities") / "A.zarr"
    smooth = ndimage.gaussian_filter(np.random.default_rng(3).random((3, *SHAPE)), (0, 2, 2, 2))
    values = np.round(255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    attributes = {"offsets": [[-1, 0, 0], [0, -1, 0], [0, 0, -1]], "voxel_size": [10, 10, 10]}
    zarr.create_array(str(path), shape=values.shape, dtype="u1", attributes=attributes)[:] = values
    return str(path)


@pytest.fixture(scope="module")
def expected(affinities: str, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    given = {"affinities": affinities, "output": str(tmp_path_factory.mktemp("whole") / "w"), "executor": "serial"}
    return segmentation(pipeline.segment(Options.model_validate({**given, "blocks": "96"}))[0])


def segmentation(workspace: Workspace) -> np.ndarray:
    return np.asarray(open_array(workspace.segmentation / "0")[:])


def said(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def jobs(workspace: Path, *more: str) -> list[str]:
    listed = [line.split() for line in said("squeue", "--noheader", "--array", "--format=%i %j", *more).splitlines()]
    return [job for job, name in listed if name.startswith(job_name(workspace))]


def wait_until(true: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, said("squeue")
        time.sleep(0.05)


def started(affinities: str, workspace: Path, *more: str) -> subprocess.Popen[str]:
    command = [
        sys.executable, "-m", "neuroseg", "segment", "--affinities", affinities, "-o", str(workspace),
        "--blocks", "16", "--executor", "slurm", *more,
    ]  # fmt: skip
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)


def done(workspace: Path, stage: str = "fragments") -> int:
    return len(Workspace(workspace).ledger(stage, {}).done())


def done_at(workspace: Path, stage: str = "fragments") -> dict[int, float]:
    return {record["block"]: record["time"] for record in Workspace(workspace).ledger(stage, {}).records()}


@pytest.mark.long
@needs_slurm
def test_jobs_that_are_cancelled_or_requeued_are_replaced(
    affinities: str, expected: np.ndarray, tmp_path: Path
) -> None:
    with started(affinities, tmp_path / "w", "--workers", "2") as head:
        wait_until(lambda: done(tmp_path / "w") > 2)
        first, second = jobs(tmp_path / "w", "--states=RUNNING")
        said("scancel", first)
        said("scontrol", "requeue", second)
        with drained("node2"):
            assert head.wait(240) == 0, head.stderr and head.stderr.read()
    np.testing.assert_array_equal(segmentation(Workspace(tmp_path / "w")), expected)
    assert jobs(tmp_path / "w") == []
    recorded = json.loads((tmp_path / "w" / "jobs.json").read_text())
    assert recorded[0]["tasks"] == 2, "one array serves all stages"
    assert (tmp_path / "w" / "logs" / "slurm" / f"compute-{first}.log").exists()
    assert 3 <= sum(entry["tasks"] for entry in recorded) <= 5, "those that were requeued are not replaced too"
    assert all(entry["over"] for entry in recorded)
    assert not list((tmp_path / "w").glob(".secret*"))


@pytest.mark.long
@needs_slurm
def test_workers_that_are_all_stopped_are_cancelled_and_replaced(
    affinities: str, expected: np.ndarray, tmp_path: Path
) -> None:
    """A stopped process cannot exit, and SLURM counts it as running."""
    with started(affinities, tmp_path / "w", "--workers", "2", "--block-timeout", "5") as head:
        wait_until(lambda: done(tmp_path / "w") > 2)
        for worker in psutil.process_iter(["cmdline"]):
            if {"neuroseg.workers.remote", str(tmp_path / "w")} <= set(worker.info["cmdline"] or []):
                worker.suspend()
        assert head.wait(240) == 0, head.stderr and head.stderr.read()
    np.testing.assert_array_equal(segmentation(Workspace(tmp_path / "w")), expected)
    assert jobs(tmp_path / "w") == []


@contextmanager
def drained(*nodes: str) -> Iterator[None]:
    """No new job starts on the nodes."""
    for node in nodes:
        said("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=test")
    try:
        yield
    finally:
        for node in nodes:
            # A controller that is busy refuses for a moment.
            wait_until(partial(_resumed, node), 60)


def _resumed(node: str) -> bool:
    subprocess.run(["scontrol", "update", f"NodeName={node}", "State=RESUME"], capture_output=True, check=False)
    return "drain" not in said("sinfo", "--noheader", f"--nodes={node}", "--format=%T")


@pytest.mark.long
@needs_slurm
@pytest.mark.parametrize("how", ["Ctrl-C", "kill -9"])
def test_no_job_outlives_the_head_and_the_run_resumes(
    affinities: str, expected: np.ndarray, tmp_path: Path, how: str
) -> None:
    # Three workers on two nodes, which take no other job then: the third would wait in the queue for ever.
    with started(affinities, tmp_path / "w", "--workers", "3") as head:
        wait_until(lambda: done(tmp_path / "w") > 2)
        with drained("node1", "node2"):
            assert len(jobs(tmp_path / "w")) == 3
            if how == "Ctrl-C":
                head.send_signal(signal.SIGINT)
                assert head.wait(30) == 130
                assert not jobs(tmp_path / "w", "--states=PENDING,RUNNING"), "the head cancels them before it ends"
            else:
                os.killpg(head.pid, signal.SIGKILL)
                assert head.wait(30) == -signal.SIGKILL
            wait_until(lambda: not jobs(tmp_path / "w"), 60)
    before = done(tmp_path / "w")
    given = Options(volume=str(tmp_path / "w"), executor="local", workers=2)
    workspace, summaries = pipeline.segment(given)
    assert summaries[0].blocks <= 3 * 6 * 6 - before, "finished blocks are not recomputed"
    np.testing.assert_array_equal(segmentation(workspace), expected)


@pytest.mark.long
@needs_slurm
def test_what_a_killed_head_left_in_the_queue_is_cancelled_by_the_next(
    affinities: str, expected: np.ndarray, tmp_path: Path
) -> None:
    with drained("node1", "node2"), started(affinities, tmp_path / "w", "--workers", "2") as head:
        wait_until(lambda: len(jobs(tmp_path / "w")) == 2)
        os.killpg(head.pid, signal.SIGKILL)
        head.wait(30)
        assert len(jobs(tmp_path / "w")) == 2, "nobody runs who could cancel them"
        workspace, _ = pipeline.segment(Options(volume=str(tmp_path / "w"), executor="local", workers=2))
        assert not jobs(tmp_path / "w")
    np.testing.assert_array_equal(segmentation(workspace), expected)


@pytest.mark.long
@needs_slurm
def test_a_head_that_is_a_job_goes_back_to_the_queue_and_resumes(
    affinities: str, expected: np.ndarray, tmp_path: Path
) -> None:
    # The head takes one of the two nodes, its worker the other.
    space, log = tmp_path / "w", tmp_path / "head.log"
    flags = ["--parsable", "--time=10", "--output", str(log), "--chdir", str(tmp_path), str(HEAD)]
    given = ["segment", "--affinities", affinities, "-o", str(space), "--blocks", "16", "--workers", "1"]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = ["sbatch", *flags, *given]
    job = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.strip()
    wait_until(lambda: done(space) > 2, 240)
    said("scancel", "--batch", "--signal=USR1", job)
    wait_until(lambda: "back to the queue" in log.read_text())
    wait_until(lambda: not jobs(space), 60)
    before = done_at(space)
    assert len(before) < 3 * 6 * 6
    # A requeued job waits for two minutes, and must not begin in the very second that it ended in.
    time.sleep(3)
    said("scontrol", "update", f"JobId={job}", "StartTime=now")
    wait_until(lambda: job not in said("squeue", "--noheader", "--format=%i"), 400)
    assert before.items() <= done_at(space).items(), "finished blocks are not recomputed"
    np.testing.assert_array_equal(segmentation(Workspace(space)), expected)
    assert jobs(space) == []


@pytest.fixture
def command_line(affinities: str, tmp_path: Path) -> Iterator[Callable[[Site], None]]:
    given = {"affinities": affinities, "output": str(tmp_path / "w"), "blocks": "48", "executor": "slurm"}

    def segment(site: Site) -> None:
        pipeline.segment(Options.model_validate(given), cluster=Cluster(site))

    yield segment
    assert jobs(tmp_path / "w") == []


@needs_slurm
def test_what_slurm_refuses_is_said(command_line: Callable[[Site], None]) -> None:
    with pytest.raises(NeurosegError, match="invalid partition specified: nowhere"):
        command_line(Site(default=Resources(partition="nowhere")))


@pytest.mark.long
@needs_slurm
def test_workers_that_cannot_start_end_the_run_with_their_last_words(command_line: Callable[[Site], None]) -> None:
    with pytest.raises(
        NeurosegError, match=r"(?s)ended without processing a block.*module-of-nobody: command not found"
    ):
        command_line(Site(activate="module-of-nobody", launch=("/no/such/container",)))


@pytest.mark.long
@needs_slurm
def test_it_is_said_what_the_workers_wait_for(
    command_line: Callable[[Site], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("neuroseg.execution.cluster.launcher._EXPLAIN_AFTER_S", 0.0)

    def interrupt_when_said() -> None:
        wait_until(lambda: "the workers are waiting in the queue" in caplog.text, 60)
        os.kill(os.getpid(), signal.SIGINT)

    interrupting = threading.Thread(target=interrupt_when_said)
    with drained("node1", "node2"):
        interrupting.start()
        with pytest.raises(KeyboardInterrupt):
            command_line(Site())
    interrupting.join()
    assert "PENDING" in caplog.text


def test_a_task_is_called_as_squeue_and_its_log_call_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    assert own_job() is None
    monkeypatch.setenv("SLURM_JOB_ID", "208")
    assert own_job() == "208"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "207")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    assert own_job() == "207_1"


def test_a_stage_asks_for_what_it_says_and_else_for_the_default() -> None:
    site = Site(
        default=Resources(partition="cpu", memory="8G", sbatch=("--account=lab",)),
        stages={"affinities": Resources(partition="gpu", gpus=1, time="02:00:00"), "pyramid": Resources(cpus=2)},
    )
    assert sbatch_flags(site.resources("affinities")) == [
        "--cpus-per-task=1", "--partition=gpu", "--mem=8G", "--time=02:00:00", "--gres=gpu:1", "--account=lab"
    ]  # fmt: skip
    assert sbatch_flags(site.resources("pyramid-2"))[0] == "--cpus-per-task=2"
    assert sbatch_flags(Site().resources("edges")) == ["--cpus-per-task=1"]

"""Real processes choose among GPUs by real locks. The identifiers of the GPUs are made up."""

from __future__ import annotations

import fcntl
import select
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from neuroseg.affinities import gpu_locks
from neuroseg.affinities.gpu_locks import held_gpu

GPUS = ("aaaa", "bbbb", "cccc")
WORKER = """
import logging, sys
from pathlib import Path
from neuroseg.affinities.gpu_locks import held_gpu
logging.basicConfig(level=logging.INFO, format="%(message)s")
with held_gpu(sys.argv[2:], Path(sys.argv[1])) as place:
    print(sys.argv[2 + place], flush=True)
    sys.stdin.read()
"""


class Worker:
    """A process that holds a GPU until it is killed."""

    def __init__(self, folder: Path, gpus: tuple[str, ...]) -> None:
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", WORKER, str(folder), *gpus]
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        self.gpu = ""

    def ready(self) -> Worker:
        assert self.process.stdout is not None
        self.gpu = self.gpu or self.process.stdout.readline().strip()
        return self

    def killed(self) -> str:
        """Kill the process, and return its log."""
        self.process.kill()
        return self.process.communicate()[1]


@contextmanager
def workers(folder: Path, count: int, gpus: tuple[str, ...] = GPUS) -> Iterator[list[Worker]]:
    started = [Worker(folder, gpus) for _ in range(count)]
    try:
        yield [worker.ready() for worker in started]
    finally:
        for worker in started:
            worker.killed()


def test_workers_that_start_together_share_the_gpus_evenly(tmp_path: Path) -> None:
    with workers(tmp_path, 6) as started:
        assert Counter(worker.gpu for worker in started) == dict.fromkeys(GPUS, 2)
        logs = [worker.killed() for worker in started]
    assert sum("which 1 other workers on this machine use" in log for log in logs) == 3


def test_two_runs_do_not_use_the_same_gpu_while_another_is_free(tmp_path: Path) -> None:
    with workers(tmp_path, 1, GPUS[1:]) as (first,), workers(tmp_path, 2) as others:
        assert first.gpu == "bbbb"
        assert {worker.gpu for worker in others} == {"aaaa", "cccc"}


def test_the_gpu_of_a_killed_worker_is_taken_again(tmp_path: Path) -> None:
    with workers(tmp_path, 3) as started:
        victim = next(worker for worker in started if worker.gpu == "bbbb")
        victim.killed()
        with workers(tmp_path, 1) as (next_one,):
            assert next_one.gpu == "bbbb"
            assert "other workers" not in next_one.killed()


def test_a_gpu_stays_in_use_after_its_first_holder_ended(tmp_path: Path) -> None:
    with workers(tmp_path, 1, ("aaaa",)) as (first,), workers(tmp_path, 1, ("aaaa",)):
        first.killed()
        with workers(tmp_path, 1, ("aaaa", "cccc")) as (chosen,):
            assert chosen.gpu == "cccc"


def test_a_worker_that_must_share_takes_the_gpu_with_the_fewest_holders(tmp_path: Path) -> None:
    with workers(tmp_path, 5), held_gpu(GPUS, tmp_path) as sixth, held_gpu(GPUS[:2], tmp_path) as place:
        assert sixth == 2, "the others have two holders"
        assert place == 0, "both have two holders; the first is preferred"


def test_a_worker_waits_while_another_one_chooses(tmp_path: Path) -> None:
    """Otherwise both could count the holders before either of them is one."""
    with (tmp_path / "choice").open("w") as choosing:
        fcntl.flock(choosing, fcntl.LOCK_EX)
        worker = Worker(tmp_path, GPUS)
        assert worker.process.stdout is not None
        assert not select.select([worker.process.stdout], [], [], 3)[0]
    assert worker.ready().gpu == "aaaa"
    worker.killed()


def test_the_locks_are_private_and_need_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with held_gpu(["aaaa"]) as place:
        assert place == 0
        (locks,) = tmp_path.glob("neuroseg-*/gpus")
        assert {path.name for path in locks.iterdir()} == {"choice", "aaaa.0"}
        assert locks.parent.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(gpu_locks, "private_folder", lambda name: None)
    with held_gpu(GPUS) as place:
        assert place == 0
    assert "no temporary folder" in caplog.text

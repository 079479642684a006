"""The jobs of a run: as many as there are blocks for, cancelled even after an interrupt, not those of others."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path

import pytest

from neuroseg.execution.cluster import launcher as launchers
from neuroseg.execution.cluster.launcher import ClusterLauncher
from neuroseg.execution.cluster.slurm_commands import cancel_own_jobs


class Ended:
    """Jobs that end as soon as they are submitted."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.cancellations = 0

    def submit(self, count: int, over: threading.Event) -> None:
        self.sent.append(count)

    def count_active(self) -> int | None:
        return 0

    def pending_reason(self) -> str:
        return ""

    def log_tail(self) -> str:
        return "nothing"

    def cancel(self, job: str) -> None:
        """No job hangs."""

    def cancel_all(self, *, force: bool) -> None:
        self.cancellations += 1
        if self.cancellations == 1:
            raise KeyboardInterrupt


def test_jobs_that_end_while_there_is_no_work_are_not_replaced_and_condemn_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launchers, "_MIN_POLL_S", 0.01)
    jobs = Ended()
    launcher = ClusterLauncher(tmp_path, lambda token, head: jobs, ["127.0.0.1"])
    launcher.scale(2, 0)
    launcher.scale(0, 2)
    time.sleep(0.3)
    sent = len(jobs.sent)
    time.sleep(0.3)
    assert (jobs.sent[0], len(jobs.sent)) == (2, sent), "two at first, and none while nothing is wanted"
    launcher.scale(1, 2)
    with pytest.raises(KeyboardInterrupt):
        launcher.stop(force=False)
    launcher.stop(force=True)
    assert jobs.cancellations == 2, "cancelling is retried after an interrupt"


@pytest.mark.parametrize(
    ("name", "cancels"),
    [("neuroseg-ab12-77aa", True), ("dask-worker", False), ("neuroseg-head", False), ("neuroseg-ab12-other", False)],
)
def test_a_worker_that_lost_its_head_cancels_the_jobs_of_its_own_run_alone(
    name: str, cancels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[list[str]] = []
    monkeypatch.setattr(subprocess, "Popen", lambda line, **more: lines.append(line))
    monkeypatch.setenv("SLURM_JOB_NAME", name)
    cancel_own_jobs("77aa")
    assert [line[:2] for line in lines] == ([["scancel", f"--name={name}"]] if cancels else [])

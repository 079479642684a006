"""Jobs of a run: as many as there are blocks for, cancelled whatever interrupts that, and those of nobody else."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path

import pytest

from neuroseg.execution.cluster import crew as crews
from neuroseg.execution.cluster.crew import Crew
from neuroseg.execution.cluster.slurm_commands import leave_together


class Ended:
    """Jobs that end as soon as they are sent for."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.dismissals = 0

    def send(self, count: int, over: threading.Event) -> None:
        self.sent.append(count)

    def alive(self) -> int | None:
        return 0

    def waits_for(self) -> str:
        return ""

    def last_words(self) -> str:
        return "nothing"

    def end(self, job: str) -> None:
        """None hangs."""

    def dismiss(self, *, at_once: bool) -> None:
        self.dismissals += 1
        if self.dismissals == 1:
            raise KeyboardInterrupt


def test_jobs_that_end_while_there_is_no_work_are_not_replaced_and_condemn_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crews, "_LOOK_S", 0.01)
    jobs = Ended()
    crew = Crew(tmp_path, lambda token, head: jobs, ["127.0.0.1"])
    crew.keep(2, 0)
    crew.keep(0, 2)
    time.sleep(0.3)
    sent = len(jobs.sent)
    time.sleep(0.3)
    assert (jobs.sent[0], len(jobs.sent)) == (2, sent), "two at first, and none while nothing is wanted"
    crew.keep(1, 2)
    with pytest.raises(KeyboardInterrupt):
        crew.stop(at_once=False)
    crew.stop(at_once=True)
    assert jobs.dismissals == 2, "an interrupted dismissal is made up for"


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
    leave_together("77aa")
    assert [line[:2] for line in lines] == ([["scancel", f"--name={name}"]] if cancels else [])

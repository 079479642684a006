"""The executor `slurm`: one job array for each kind of worker, whose tasks are workers.

What it needs of SLURM is sbatch, squeue and scancel (slurm_commands.py); accounting is not asked.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import threading
import time
from importlib import resources
from pathlib import Path

from neuroseg.execution.cluster.crew import newest_words
from neuroseg.execution.cluster.site import Resources, Site
from neuroseg.execution.cluster.slurm_commands import alive, can_cancel, cancel, cancel_job, submitted, waiting
from neuroseg.storage.publish import publish_text
from neuroseg.storage.state import entries_in

JOBS = "jobs.json"
_LEAVE_S = 3.0
_LOOK_S = 0.2

logger = logging.getLogger(__name__)


class SlurmJobs:
    """Workers as tasks of job arrays that bear one name, by which they are counted and cancelled.

    `kind` is what they call themselves in logs and in jobs.json; `asked` what each task asks for. The command of a task
    is `python -m MODULE WORKSPACE TOKEN HEAD`.
    """

    def __init__(
        self, workspace: Path, logs: Path, site: Site, kind: str, asked: Resources, module: str, token: str, head: str
    ) -> None:
        self._workspace, self._logs, self._site = workspace.resolve(), logs.resolve(), site
        self._kind, self._asked = kind, asked
        self._module, self._arguments = module, [token, head]
        self._jobs: set[str] = set()
        self.name = f"{job_name(workspace)}-{token}"
        logs.mkdir(parents=True, exist_ok=True)

    def send(self, count: int, over: threading.Event) -> None:
        """Submit an array of `count` tasks; raises NeurosegError with what sbatch says when it refuses."""
        script = resources.files("neuroseg.workers") / "slurm" / "worker.sbatch"
        flags = sbatch_flags(self._asked)
        common = ["--parsable", f"--job-name={self.name}", f"--array=0-{count - 1}", f"--chdir={self._workspace}"]
        folder = str(self._logs).replace("%", "%%")
        output = f"--output={folder}/{self._kind}-%A_%a.log"
        python = self._site.python or sys.executable
        worker = [python, "-P", "-m", self._module, str(self._workspace), *self._arguments]
        line = ["sbatch", *flags, *common, output, str(script), self._site.activate, *self._site.launch, *worker]
        job = submitted(line, self.name, self._jobs, over)
        if job is not None:
            self._jobs.add(job)
            record(self._workspace / JOBS, {"job": job, "name": self.name, "kind": self._kind, "tasks": count})

    def alive(self) -> int | None:
        """Return how many tasks wait or run; None when the controller does not answer."""
        return alive(self.name)

    def waits_for(self) -> str:
        """Return the first task that waits in the queue and why, as the controller puts it; nothing where none does."""
        return waiting(self.name)

    def dismiss(self, *, at_once: bool) -> None:
        """Cancel every task of the name; unless `at_once`, after a moment for those that are about to end."""
        deadline = time.monotonic() + _LEAVE_S
        try:
            while not at_once and time.monotonic() < deadline and self.alive():
                time.sleep(_LOOK_S)
        finally:  # also where it is interrupted
            cancel(self.name)
            forget(self._workspace / JOBS, self.name)

    def end(self, job: str) -> None:
        """Cancel one task."""
        cancel_job(job)

    def last_words(self) -> str:
        """Return the newest log of such workers and its last lines."""
        return newest_words(self._logs, self._kind)


def job_name(workspace: Path) -> str:
    """Return how the names of a workspace's jobs begin, and those of no other workspace."""
    return f"neuroseg-{hashlib.sha256(str(workspace.resolve()).encode()).hexdigest()[:8]}"


def cancel_leftovers(workspace: Path) -> None:
    """Cancel what a head that was killed left in the queue."""
    path = workspace / JOBS
    if not path.exists():
        return
    entries = entries_in(path)
    if entries is None:
        logger.warning("%s is damaged: jobs that a killed run left in the queue are not cancelled; see squeue", path)
        path.unlink(missing_ok=True)
    elif can_cancel():
        for name in dict.fromkeys(str(entry.get("name")) for entry in entries if not entry.get("over")):
            cancel(name)
            forget(path, name)


def sbatch_flags(asked: Resources) -> list[str]:
    """Return the flags of sbatch for what a job asks for."""
    given = {
        "partition": asked.partition, "mem": asked.memory, "time": asked.time,
        "gres": f"gpu:{asked.gpus}" if asked.gpus else None,
    }  # fmt: skip
    flags = [f"--{name}={value}" for name, value in given.items() if value is not None]
    return [f"--cpus-per-task={asked.cpus}", *flags, *asked.sbatch]


def forget(path: Path, name: str) -> None:
    """Note that the jobs of a name are over."""
    if entries := entries_in(path):
        entries = [{**entry, "over": True} if entry.get("name") == name else entry for entry in entries]
        publish_text(path, json.dumps(entries, indent=1) + "\n")


def record(path: Path, entry: dict[str, object]) -> None:
    """Add an entry to a JSON list."""
    publish_text(path, json.dumps([*(entries_in(path) or []), entry], indent=1) + "\n")

"""The executor `slurm`: one job array per kind of worker. Each task of the array is a worker.

It uses sbatch, squeue and scancel (slurm_commands.py), not SLURM's accounting.
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

from neuroseg.execution.cluster.program import Program
from neuroseg.execution.cluster.site import Resources, Site
from neuroseg.execution.cluster.slurm_commands import (
    can_cancel,
    cancel,
    cancel_job,
    count_active,
    first_pending,
    submit,
)
from neuroseg.storage.publish import publish_text
from neuroseg.storage.state import entries_in

JOBS = "jobs.json"
_EXIT_TIMEOUT_S = 3.0
_CHECK_EVERY_S = 0.2

logger = logging.getLogger(__name__)


class SlurmJobs:
    """Workers as tasks of job arrays. The arrays share one job name, by which they are counted and cancelled.

    Each task requests `requested` and runs `program`, whose kind is in its name and in jobs.json.
    """

    def __init__(self, program: Program, site: Site, requested: Resources) -> None:
        self._program, self._site, self._requested = program, site, requested
        self._folder = program.folder.resolve()
        self._jobs: set[str] = set()
        self.name = f"{job_name(program.folder)}-{program.kind}-{program.token}"
        program.logs.mkdir(parents=True, exist_ok=True)

    def submit(self, count: int, over: threading.Event) -> None:
        """Submit an array of `count` tasks. Raises NeurosegError with the message of sbatch if it refuses."""
        script = resources.files("neuroseg.workers") / "slurm" / "worker.sbatch"
        flags = sbatch_flags(self._requested)
        common = ["--parsable", f"--job-name={self.name}", f"--array=0-{count - 1}", f"--chdir={self._folder}"]
        logs, kind = str(self._program.logs.resolve()).replace("%", "%%"), self._program.kind
        output = f"--output={logs}/{kind}-%A_%a.log"
        worker = [*self._site.launch, self._site.python or sys.executable, *self._program.words]
        line = ["sbatch", *flags, *common, output, str(script), self._site.activate, *worker]
        job = submit(line, self.name, self._jobs, over)
        if job is not None:
            self._jobs.add(job)
            add_entry(self._folder / JOBS, {"job": job, "name": self.name, "kind": kind, "tasks": count})

    def count_active(self) -> int | None:
        """Return the number of waiting and running tasks. None if the controller does not answer."""
        return count_active(self.name)

    def pending_reason(self) -> str:
        """Return the first waiting task and SLURM's reason. Return an empty string if none waits."""
        return first_pending(self.name)

    def cancel_all(self, *, force: bool) -> None:
        """Cancel all tasks. Without `force`, first give those that are about to end a moment."""
        deadline = time.monotonic() + _EXIT_TIMEOUT_S
        try:
            while not force and time.monotonic() < deadline and self.count_active():
                time.sleep(_CHECK_EVERY_S)
        finally:  # also after an interrupt
            cancel(self.name)
            mark_over(self._folder / JOBS, self.name)

    def cancel(self, job: str) -> None:
        """Cancel one task."""
        cancel_job(job)

    def log_tail(self) -> str:
        """Return the path of the newest worker log, and its last lines."""
        return self._program.log_tail()


def job_name(workspace: Path) -> str:
    """Return the prefix of the job names of a workspace. Other workspaces have other prefixes."""
    return f"neuroseg-{hashlib.sha256(str(workspace.resolve()).encode()).hexdigest()[:8]}"


def cancel_leftovers(workspace: Path) -> None:
    """Cancel the jobs that a killed head left in the queue."""
    path = workspace / JOBS
    if not path.exists():
        return
    entries = entries_in(path)
    if entries is None:
        logger.warning(
            "%s is damaged: cannot cancel jobs that a killed run left in the queue; check squeue and cancel them", path
        )
        path.unlink(missing_ok=True)
    elif can_cancel():
        for name in dict.fromkeys(str(entry.get("name")) for entry in entries if not entry.get("over")):
            cancel(name)
            mark_over(path, name)


def sbatch_flags(requested: Resources) -> list[str]:
    """Return the sbatch flags for the requested resources."""
    given = {
        "partition": requested.partition, "mem": requested.memory, "time": requested.time,
        "gres": f"gpu:{requested.gpus}" if requested.gpus else None,
    }  # fmt: skip
    flags = [f"--{name}={value}" for name, value in given.items() if value is not None]
    return [f"--cpus-per-task={requested.cpus}", *flags, *requested.sbatch]


def mark_over(path: Path, name: str) -> None:
    """Mark the jobs of a name as over in a JSON list."""
    if entries := entries_in(path):
        entries = [{**entry, "over": True} if entry.get("name") == name else entry for entry in entries]
        publish_text(path, json.dumps(entries, indent=1) + "\n")


def add_entry(path: Path, entry: dict[str, object]) -> None:
    """Add an entry to a JSON list."""
    publish_text(path, json.dumps([*(entries_in(path) or []), entry], indent=1) + "\n")

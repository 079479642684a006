"""The executor `slurm`: one job array per stage, whose tasks are workers. The one file that runs SLURM's commands.

What it needs of SLURM is sbatch, squeue and scancel; accounting is not asked.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from neuroseg.errors import NeurosegError
from neuroseg.execution.remote import WORKER, Crew, RemoteExecutor, newest_words, own_hosts
from neuroseg.execution.site import Resources, Site
from neuroseg.storage.publish import publish_text

JOBS = "jobs.json"
_PATIENCE_S = 60.0
_LEAVE_S = 3.0
_LOOK_S = 0.2
_ENDED = {"COMPLETED", "COMPLETING", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY"}
_KEPT_VARIABLES = {"SLURM_CONF", "SLURM_CLUSTERS"}


def slurm_executor(
    workspace: Path, logs: Path, site: Site, stage: str, workers: int | None, block_timeout_s: float
) -> RemoteExecutor:
    """Return the executor of one stage; `workers` overrides the site's number, which is 2 where it says none."""
    asked = site.resources(stage)

    def enlist(stage: str, head: str) -> Crew:
        crew = SlurmCrew(workspace, logs / "slurm", site, stage, WORKER, head)
        crew.dismiss(at_once=True)  # what a head that was killed left in the queue
        return crew

    hosts = [site.host] if site.host else own_hosts()
    return RemoteExecutor(workspace, workers or asked.workers or 2, logs, enlist, hosts, site.port, block_timeout_s)


class SlurmCrew:
    """Workers of one stage as tasks of job arrays that bear one name, of the workspace and the stage."""

    def __init__(self, workspace: Path, logs: Path, site: Site, stage: str, module: str, head: str) -> None:
        self._workspace, self._logs, self._site, self._stage = workspace.resolve(), logs.resolve(), site, stage
        self._module, self._head = module, head
        self.name = job_name(workspace)
        logs.mkdir(parents=True, exist_ok=True)

    def send(self, count: int) -> None:
        """Submit an array of `count` tasks; raises NeurosegError with what sbatch says when it refuses."""
        script = resources.files("neuroseg.workers") / "slurm" / "worker.sbatch"
        flags = sbatch_flags(self._site.resources(self._stage))
        common = ["--parsable", f"--job-name={self.name}", f"--array=0-{count - 1}", f"--chdir={self._workspace}"]
        output = f"--output={self._logs / f'{self._stage}-%A_%a.log'}"
        python = self._site.python or sys.executable
        worker = [python, "-m", self._module, str(self._workspace), self._stage, self._head]
        line = ["sbatch", *common, output, *flags, str(script), self._site.activate, *self._site.launch, *worker]
        job = asked(line).strip().split(";")[0]
        record(self._workspace / JOBS, {"job": job, "stage": self._stage, "tasks": count, "time": time.time()})

    def alive(self) -> int | None:
        """Return how many tasks wait or run; None when the controller does not answer."""
        try:
            states = asked(["squeue", "--noheader", "--array", "--format=%T", f"--name={self.name}", _own()])
        except NeurosegError:
            return None
        return sum(state not in _ENDED for state in states.split())

    def waits_for(self) -> str:
        """Return the state of the first task and why it does not run yet, as the controller puts it."""
        told = asked(["squeue", "--noheader", "--array", "--format=%T %R", f"--name={self.name}", _own()])
        return told.strip().partition("\n")[0]

    def dismiss(self, *, at_once: bool) -> None:
        """Cancel every task of the name; unless `at_once`, after a moment for those that are about to end."""
        deadline = time.monotonic() + _LEAVE_S
        while not at_once and time.monotonic() < deadline and self.alive():
            time.sleep(_LOOK_S)
        cancel(f"--name={self.name}", _own())

    def last_words(self) -> str:
        """Return the newest log of the stage and its last lines."""
        return newest_words(self._logs, self._stage)


def job_name(workspace: Path) -> str:
    """Return the name of a workspace's jobs, which those of no other workspace bear."""
    path = workspace.resolve()
    return f"neuroseg-{path.stem}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def sbatch_flags(asked: Resources) -> list[str]:
    """Return the flags of sbatch for what a job asks for."""
    given = {
        "partition": asked.partition, "mem": asked.memory, "time": asked.time,
        "gres": f"gpu:{asked.gpus}" if asked.gpus else None,
    }  # fmt: skip
    flags = [f"--{name}={value}" for name, value in given.items() if value is not None]
    return [f"--cpus-per-task={asked.cpus}", *flags, *asked.sbatch]


def cancel(*which: str) -> None:
    """Cancel jobs; a session of its own lets it end although the head is told to."""
    with contextlib.suppress(NeurosegError):
        asked(["scancel", *which])


def leave_together() -> None:
    """Cancel the array that this process is a task of: nobody is there to give its other tasks work."""
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        cancel(array)


def asked(line: Sequence[str]) -> str:
    """Return what a command of SLURM prints; raises NeurosegError with its complaint."""
    if shutil.which(line[0]) is None:
        raise NeurosegError(f"{line[0]} is not here: --executor slurm runs where SLURM's commands are (a login node)")
    # Inside a job, its own variables would pass for wishes about the jobs to come.
    kept = {key: value for key, value in os.environ.items() if key in _KEPT_VARIABLES or not key.startswith("SLURM_")}
    try:
        done = subprocess.run(
            line, capture_output=True, text=True, timeout=_PATIENCE_S, env=kept, start_new_session=True, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise NeurosegError(f"{line[0]} did not answer within {_PATIENCE_S:g} s") from error
    if done.returncode:
        raise NeurosegError(f"{done.stderr.strip() or done.stdout.strip()}\n  said by: {shlex.join(line)}")
    return done.stdout


def record(path: Path, entry: dict[str, object]) -> None:
    """Add an entry to a JSON list."""
    entries = json.loads(path.read_text()) if path.exists() else []
    publish_text(path, json.dumps([*entries, entry], indent=1) + "\n")


def _own() -> str:
    return f"--user={getpass.getuser()}"

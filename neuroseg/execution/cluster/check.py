"""Check a cluster: submit one short job for each kind of job in its configuration file.

The job runs `activate`, starts Python, reads the secret in the shared folder, connects to the head, and reports its
software and hardware.
"""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuroseg import __version__
from neuroseg.errors import NeurosegError
from neuroseg.execution.cluster.launcher import Jobs, listening
from neuroseg.execution.cluster.program import Program
from neuroseg.execution.cluster.site import Site
from neuroseg.execution.cluster.slurm import SlurmJobs
from neuroseg.execution.listener import Listener, own_hosts

PROBE = "neuroseg.workers.probe"
_POLL_S = 0.5
_LOG_DELAY_S = 3.0  # after a job has ended, its log may appear late on a network disk


@dataclass(frozen=True)
class Checked:
    """The result for one kind of job: its report, and a description of the problem or None."""

    stages: tuple[str, ...]
    said: dict[str, Any]
    seconds: float
    problem: str | None


def checked(site: Site, folder: Path, *, wait_s: float) -> Iterator[Checked]:
    """Submit one job for each kind of job, one after the other, and yield the results.

    All machines must see `folder`. A job that does not report within `wait_s` seconds is cancelled. Raises
    NeurosegError if the head cannot listen on the configured port.
    """
    for kind, stages in site.kinds().items():
        yield _check(site, folder, kind, stages, wait_s)


def _check(site: Site, folder: Path, kind: str, stages: tuple[str, ...], wait_s: float) -> Checked:
    folder = folder / f".check-{secrets.token_hex(4)}"
    folder.mkdir(parents=True)
    began = time.monotonic()
    requested = site.resources(stages[0])

    def create_jobs(token: str, head: str) -> Jobs:
        return SlurmJobs(Program(PROBE, folder, folder, token, head, kind), site, requested)

    hosts = [site.host] if site.host else own_hosts()
    with listening(folder, create_jobs, hosts, site.port) as (listener, jobs):
        said: dict[str, Any] = {}
        try:
            jobs.submit(1, threading.Event())
            said, problem = _wait_for_report(jobs, listener, wait_s)
        except NeurosegError as error:
            problem = str(error)
        finally:
            jobs.cancel_all(force=True)
    problem = problem or _mismatch(said, requested.gpus) or _activation(said, jobs)
    if problem is None or not any(folder.glob("*.log")):
        shutil.rmtree(folder)
    return Checked(stages, said, time.monotonic() - began, problem)


def _wait_for_report(jobs: Jobs, listener: Listener, wait_s: float) -> tuple[dict[str, Any], str | None]:
    """Wait for the job's report. Return the report and None, or an empty report and the problem."""
    deadline, ended = time.monotonic() + wait_s, None
    while not (channels := listener.new_channels()):
        now = time.monotonic()
        if now > deadline:
            reason = jobs.pending_reason() or f"it has started, or left the queue; {jobs.log_tail()}"
            return {}, f"the job did not report within {wait_s:g} s; {reason}"
        if jobs.count_active() == 0:
            ended = ended or now
            if now > ended + _LOG_DELAY_S:
                return {}, f"the job ended without connecting to the head; {jobs.log_tail()}"
        time.sleep(_POLL_S)
    said = channels[0].receive()
    channels[0].close()
    return (said, None) if said else ({}, f"the job connected to the head but sent no report; {jobs.log_tail()}")


def _mismatch(said: dict[str, Any], gpus: int) -> str | None:
    if said.get("neuroseg") != __version__:
        found = said.get("neuroseg")
        return f"the job uses neuroseg {found}, but this machine uses {__version__}; use the same version"
    if gpus and said.get("gpus", 0) < gpus:
        found = said.get("gpus")
        return (
            f"the job requested {gpus} GPU(s), but torch sees {found}; "
            "the driver may be missing, or torch may be a build for CPUs"
        )
    return None


def _activation(said: dict[str, Any], jobs: Jobs) -> str | None:
    failed = said.get("activate", "ok")
    return None if failed == "ok" else f"`activate` failed, {failed}; {jobs.log_tail()}"

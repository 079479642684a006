"""Does a cluster do what workers need: one short job for each kind of job that its description asks for.

The job runs the site's `activate`, starts Python, finds the shared folder and the secret in it, reaches the head, and
says what it is.
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
from neuroseg.execution.cluster.site import STAGES, Site
from neuroseg.execution.cluster.slurm import SlurmJobs
from neuroseg.execution.door import Door, new_secret, own_hosts, secret_path
from neuroseg.execution.ending import slow_to_end

PROBE = "neuroseg.workers.probe"
_LOOK_S = 0.5
_LATEST_S = 3.0  # after a job has ended its log may still be on its way


@dataclass(frozen=True)
class Checked:
    """What one kind of job gave: what it said of itself, and what is wrong, None when nothing is."""

    stages: tuple[str, ...]
    said: dict[str, Any]
    seconds: float
    problem: str | None


def checked(site: Site, folder: Path, *, wait_s: float) -> Iterator[Checked]:
    """Submit one job for each kind of job, one after the other; `folder` must be one that all machines see.

    A job that does not run within `wait_s` is cancelled. Raises NeurosegError where nothing can be submitted at all.
    """
    kinds: dict[str, list[str]] = {}
    for stage in STAGES:
        kinds.setdefault(site.resources(stage).model_dump_json(exclude={"workers"}), []).append(stage)
    for stages in kinds.values():
        yield _checked(site, folder, tuple(stages), wait_s)


def _checked(site: Site, folder: Path, stages: tuple[str, ...], wait_s: float) -> Checked:
    token = secrets.token_hex(4)
    folder = folder / f".check-{token}"
    folder.mkdir(parents=True)
    began = time.monotonic()
    asked = site.resources(stages[0])
    with new_secret(secret_path(folder, token)) as secret, Door(secret, port=site.port) as door, slow_to_end():
        hosts = [site.host] if site.host else own_hosts()
        head = ",".join(f"{host}:{door.port}" for host in hosts)
        jobs = SlurmJobs(folder, folder, site, stages[0], asked, PROBE, token, head)
        said: dict[str, Any] = {}
        try:
            jobs.send(1, threading.Event())
            said, problem = _waited(jobs, door, wait_s)
        except NeurosegError as error:
            problem = str(error)
        finally:
            jobs.dismiss(at_once=True)
    problem = problem or _mismatch(said, asked.gpus) or _activation(said, jobs)
    if problem is None or not any(folder.glob("*.log")):
        shutil.rmtree(folder)
    return Checked(stages, said, time.monotonic() - began, problem)


def _waited(jobs: SlurmJobs, door: Door, wait_s: float) -> tuple[dict[str, Any], str | None]:
    """Wait for the job's word; returns it, or nothing and what is wrong when none comes."""
    deadline, ended = time.monotonic() + wait_s, None
    while not (came := door.came()):
        now = time.monotonic()
        if now > deadline:
            return {}, f"no word from the job in {wait_s:g} s; {jobs.waits_for() or 'it does not wait in the queue'}"
        if jobs.alive() == 0:
            ended = ended or now
            if now > ended + _LATEST_S:
                return {}, f"the job ended without reaching the head; {jobs.last_words()}"
        time.sleep(_LOOK_S)
    said = came[0].receive()
    came[0].close()
    return (said, None) if said else ({}, f"the job reached the head and said nothing; {jobs.last_words()}")


def _mismatch(said: dict[str, Any], gpus: int) -> str | None:
    if said.get("neuroseg") != __version__:
        return f"the job has neuroseg {said.get('neuroseg')}, this is {__version__}: let them use one installation"
    if gpus and said.get("gpus", 0) < gpus:
        return f"the job asked for {gpus} GPU(s) and torch sees {said.get('gpus')}: a driver, or a build for CPUs"
    return None


def _activation(said: dict[str, Any], jobs: SlurmJobs) -> str | None:
    failed = said.get("activate", "ok")
    return None if failed == "ok" else f"`activate` failed, {failed}; {jobs.last_words()}"

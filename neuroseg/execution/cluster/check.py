"""Does a cluster do what workers need: one short job for each kind of job that its description asks for.

The job runs the site's `activate`, starts Python, finds the shared folder and the secret in it, reaches the head, and
says what it is.
"""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuroseg import __version__
from neuroseg.errors import NeurosegError
from neuroseg.execution.cluster.site import STAGES, Site
from neuroseg.execution.cluster.slurm import SlurmCrew
from neuroseg.execution.crew import EVERY_INTERFACE, own_hosts, secret_path
from neuroseg.execution.ending import slow_to_end
from neuroseg.execution.gateway import Gateway
from neuroseg.execution.handshake import new_secret

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
    with (
        new_secret(secret_path(folder, token)) as secret,
        _listening() as (port, heard),
        Gateway(secret, ("127.0.0.1", port), interface=EVERY_INTERFACE, port=site.port) as gateway,
        slow_to_end(),
    ):
        hosts = [site.host] if site.host else own_hosts()
        head = ",".join(f"{host}:{gateway.port}" for host in hosts)
        crew = SlurmCrew(folder, folder, site, stages[0], PROBE, token, head)
        try:
            crew.send(1, threading.Event())
            problem = _waited(crew, heard, wait_s)
        except NeurosegError as error:
            problem = str(error)
        finally:
            crew.dismiss(at_once=True)
    said = heard[0] if heard else {}
    problem = problem or _mismatch(said, site.resources(stages[0]).gpus) or _activation(said, crew)
    if problem is None or not any(folder.glob("*.log")):
        shutil.rmtree(folder)
    return Checked(stages, said, time.monotonic() - began, problem)


def _waited(crew: SlurmCrew, heard: list[dict[str, Any]], wait_s: float) -> str | None:
    """Wait for the job's word; returns what is wrong when none comes."""
    deadline, ended = time.monotonic() + wait_s, None
    while not heard:
        now = time.monotonic()
        if now > deadline:
            return f"no word from the job in {wait_s:g} s; {crew.waits_for() or 'it does not wait in the queue'}"
        if crew.alive() == 0:
            ended = ended or now
            if now > ended + _LATEST_S:
                return f"the job ended without reaching the head; {crew.last_words()}"
        time.sleep(_LOOK_S)
    return None


def _mismatch(said: dict[str, Any], gpus: int) -> str | None:
    if said.get("neuroseg") != __version__:
        return f"the job has neuroseg {said.get('neuroseg')}, this is {__version__}: let them use one installation"
    if gpus and said.get("gpus", 0) < gpus:
        return f"the job asked for {gpus} GPU(s) and torch sees {said.get('gpus')}: a driver, or a build for CPUs"
    return None


def _activation(said: dict[str, Any], crew: SlurmCrew) -> str | None:
    failed = said.get("activate", "ok")
    return None if failed == "ok" else f"`activate` failed, {failed}; {crew.last_words()}"


@contextmanager
def _listening() -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Stand where the scheduler does; yields the port and the messages that come, one JSON line each."""
    heard: list[dict[str, Any]] = []

    def listen() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection, connection.makefile() as lines:
                if line := lines.readline():
                    heard.append(json.loads(line))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=listen, name="listening", daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1], heard
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()

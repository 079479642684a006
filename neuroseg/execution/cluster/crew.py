"""Workers on other machines: sent for as jobs, they come to the head's door. While there is work, who ends is replaced.

    head                                                    worker (a job of the cluster)
    crew: sends for workers       -> jobs (slurm.py, dask.py) ->  python -m neuroseg.workers.remote WORKSPACE TOKEN HEAD
    door: asks for the secret     <- connection               <-

Workers share nothing with the head but the workspace, which lies on a disk that all machines see.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from neuroseg.errors import NeurosegError
from neuroseg.execution.channel import Channel
from neuroseg.execution.door import Door, new_secret, secret_path
from neuroseg.execution.ending import slow_to_end

WORKER = "neuroseg.workers.remote"
# How often jobs are counted: at first, and when the run has gone on for long.
_LOOK_S, _LATER_S = 1.0, 10.0
# After so long a user is told what the workers wait for.
_SILENT_S = 20.0
_TOLD_LINES = 5
# So many workers in a row, for each one wanted, may end without a word about a block between them.
_FRUITLESS = 3
# Whoever ends this soon after it was sent for was sent to a bad place: the next one is sent later and later.
_SOON_S, _LONGEST_PAUSE_S = 30.0, 60.0
_JOIN_S = 5.0

logger = logging.getLogger(__name__)


class Jobs(Protocol):
    """What a cluster runs workers as. They are counted and cancelled together."""

    def send(self, count: int, over: threading.Event) -> None:
        """Send for that many workers more, unless it is `over` before; raises NeurosegError when nobody will come."""
        ...

    def alive(self) -> int | None:
        """Return how many wait or work; None when nobody can tell at the moment."""
        ...

    def waits_for(self) -> str:
        """Return what the workers wait for before they begin, as the cluster puts it; nothing where it does not."""
        ...

    def last_words(self) -> str:
        """Return where a worker's messages lie, and the last of them."""
        ...

    def end(self, job: str) -> None:
        """End one of them, by what it calls itself."""
        ...

    def dismiss(self, *, at_once: bool) -> None:
        """End all workers, whether they wait or work; unless `at_once`, those that are about to end may."""
        ...


Enlist = Callable[[str, str], Jobs]
"""enlist(token, head's addresses) returns the jobs, none sent for yet; the token names the run's secret."""


class Crew:
    """Keeps workers coming, in a thread of its own: a cluster may take long to answer. See execution.workers.Launcher.

    Workers reach the head at `hosts`, tried in order, and `port` (0: a free one).
    """

    def __init__(self, workspace: Path, enlist: Enlist, hosts: Sequence[str], port: int = 0) -> None:
        self._held = ExitStack()
        self._wanted = self._progress = self._fruitless = self._stuck = 0
        self._hanging: list[str] = []
        self._over = threading.Event()
        self._error: BaseException | None = None
        self._attending: threading.Thread | None = None
        token = secrets.token_hex(4)
        try:
            self._held.enter_context(slow_to_end())
            secret = self._held.enter_context(new_secret(secret_path(workspace, token)))
            self._door = self._held.enter_context(Door(secret, port=port))
            self._jobs = enlist(token, ",".join(f"{host}:{self._door.port}" for host in hosts))
        except BaseException:
            self._held.close()
            raise

    @property
    def bell(self) -> Any:
        """What can be waited at for a worker to come in."""
        return self._door.bell

    def came(self) -> list[Channel]:
        """Return the channels of workers that came since the last call."""
        return self._door.came()

    def keep(self, wanted: int, progress: int) -> None:
        """Say how many workers are wanted; raises NeurosegError when none will come any more."""
        if self._wanted == 0:
            self._fruitless = 0  # what ended while there was nothing to do does not count
        self._wanted, self._progress = wanted, progress
        if self._attending is None and wanted:
            self._attending = threading.Thread(target=self._attend, name="crew", daemon=True)
            self._attending.start()
        if self._error is not None:
            raise self._error

    def end(self, channel: Channel, job: str | None) -> None:
        """Cancel the job of a worker that hangs; where it has none, it counts as alive no more."""
        if job is not None:
            self._hanging.append(job)
        else:
            self._stuck += 1

    def stop(self, *, at_once: bool) -> None:
        """Cancel what is left of the jobs."""
        self._over.set()
        try:
            if self._attending is not None:
                self._attending.join(_JOIN_S)  # a controller that does not answer is not waited for
                self._jobs.dismiss(at_once=at_once)
                self._attending = None
        finally:
            self._held.close()

    def _attend(self) -> None:
        try:
            self._replace()
        except BaseException as error:
            self._error = error

    def _replace(self) -> None:
        """Send for workers, and for others in the place of those that ended while there are blocks for them."""
        self._jobs.send(self._wanted, self._over)
        began = sent = time.monotonic()
        before, pause, told = 0, _LOOK_S, False
        while not self._over.wait(min(_LATER_S, max(_LOOK_S, (time.monotonic() - began) / 60))):
            if not told and time.monotonic() > began + _SILENT_S:
                told = True
                if self._progress == 0 and (waiting := self._jobs.waits_for()):
                    logger.warning("the workers wait: %s", waiting)
            while self._hanging:
                self._jobs.end(self._hanging.pop())
            alive = self._jobs.alive()
            missing = 0 if alive is None else self._wanted - max(0, alive - self._stuck)
            if missing <= 0 or time.monotonic() < sent + pause:
                continue
            self._fruitless = missing if self._progress > before else self._fruitless + missing
            before = self._progress
            if self._fruitless > _FRUITLESS * self._wanted:
                raise NeurosegError(
                    f"{self._fruitless} workers ended one after the other and no block was done meanwhile; "
                    f"{self._jobs.last_words()}"
                )
            pause = min(2 * pause, _LONGEST_PAUSE_S) if time.monotonic() < sent + pause + _SOON_S else _LOOK_S
            self._jobs.send(missing, self._over)
            sent = time.monotonic()


def newest_words(logs: Path, kind: str) -> str:
    """Return the newest log of workers of a kind in a folder, and its last lines."""
    found = sorted(logs.glob(f"{kind}-*.log"), key=lambda log: log.stat().st_mtime)
    if not found:
        return f"no worker wrote a log in {logs}: do its machines see that folder? neuroseg cluster check tells"
    said = "\n  ".join(found[-1].read_text(errors="replace").strip().splitlines()[-_TOLD_LINES:])
    return f"{found[-1]} ends with:\n  {said}"

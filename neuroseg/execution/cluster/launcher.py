"""Start workers on other machines as jobs, and replace jobs that end while there is work.

    head                                                       worker (a job of the cluster)
    launcher: submits jobs        -> jobs (slurm.py, dask.py)  ->  neuroseg.workers.remote (program.py)
    listener: checks the secret   <- connection                <-

Head and workers share only the workspace, on a disk that all machines see.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from neuroseg.errors import NeurosegError
from neuroseg.execution.channel import Channel
from neuroseg.execution.ending import slow_to_end
from neuroseg.execution.listener import Listener, new_secret, secret_path

WORKER = "neuroseg.workers.remote"
# Interval at which jobs are counted: at the beginning, and later in a long run.
_MIN_POLL_S, _MAX_POLL_S = 1.0, 10.0
# If no block is done after this time, log the reason why the jobs wait.
_EXPLAIN_AFTER_S = 20.0
# Failed starts in a row, per wanted worker, before the run gives up. A start failed if no block was reported since.
_FAILED_STARTS_PER_WORKER = 3
# If jobs end sooner than this after they were submitted, the pause before the next submission doubles.
_SHORT_LIFE_S, _MAX_PAUSE_S = 30.0, 60.0
_JOIN_TIMEOUT_S = 5.0

logger = logging.getLogger(__name__)


class Jobs(Protocol):
    """The jobs of a cluster that run the workers. They are counted and cancelled together."""

    def submit(self, count: int, over: threading.Event) -> None:
        """Submit jobs for `count` more workers unless `over` is set. Raises NeurosegError if the cluster refuses."""
        ...

    def count_active(self) -> int | None:
        """Return the number of waiting and running jobs. None if the cluster does not answer."""
        ...

    def pending_reason(self) -> str:
        """Return the cluster's reason why jobs wait, or an empty string."""
        ...

    def log_tail(self) -> str:
        """Return the path of the newest worker log, and its last lines."""
        ...

    def cancel(self, job: str) -> None:
        """Cancel one job. `job` is the id that its worker reported."""
        ...

    def cancel_all(self, *, force: bool) -> None:
        """Cancel all waiting and running jobs. Without `force`, first give those that are about to end a moment."""
        ...


Created = TypeVar("Created")
CreateJobs = Callable[[str, str], Created]
"""create_jobs(token, addresses of the head) returns the jobs, none submitted yet. `token` names the run's secret."""


@contextmanager
def listening(
    folder: Path, create_jobs: CreateJobs[Created], hosts: Sequence[str], port: int
) -> Iterator[tuple[Listener, Created]]:
    """Listen for workers that read a new secret in `folder`. Yield the listener and the jobs that start the workers."""
    token = secrets.token_hex(4)
    with slow_to_end(), new_secret(secret_path(folder, token)) as secret, Listener(secret, port=port) as listener:
        yield listener, create_jobs(token, ",".join(f"{host}:{listener.port}" for host in hosts))


class ClusterLauncher:
    """Starts and replaces workers on a cluster. See execution.pool.Launcher.

    Runs in its own thread, because a cluster may answer slowly. Workers try `hosts` in order to connect to the head at
    `port` (0: a free one).
    """

    def __init__(self, workspace: Path, create_jobs: CreateJobs[Jobs], hosts: Sequence[str], port: int = 0) -> None:
        self._wanted = self._progress = self._failed_starts = self._lost = 0
        self._to_cancel: list[str] = []
        self._over = threading.Event()
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._listening = ExitStack()
        self._listener, self._jobs = self._listening.enter_context(listening(workspace, create_jobs, hosts, port))

    def new_channels(self) -> list[Channel]:
        """Return the channels of the workers that connected since the last call."""
        return self._listener.new_channels()

    def scale(self, wanted: int, progress: int) -> None:
        """Set the number of wanted workers. Raises NeurosegError if no further worker will start."""
        if self._wanted == 0:
            self._failed_starts = 0  # jobs that ended while there was no work do not count
        self._wanted, self._progress = wanted, progress
        if self._thread is None and wanted:
            self._thread = threading.Thread(target=self._run, name="launcher", daemon=True)
            self._thread.start()
        if self._error is not None:
            raise self._error

    def kill(self, channel: Channel, job: str | None) -> None:
        """Cancel the job of a hanging worker. Without a job, stop counting the worker as active."""
        if job is not None:
            self._to_cancel.append(job)
        else:
            self._lost += 1

    def stop(self, *, force: bool) -> None:
        """Cancel the remaining jobs."""
        self._over.set()
        with self._listening:
            if self._thread is not None:
                self._thread.join(_JOIN_TIMEOUT_S)  # do not wait longer for a controller that does not answer
                self._jobs.cancel_all(force=force)
                self._thread = None

    def _run(self) -> None:
        try:
            self._replace_ended()
        except BaseException as error:
            self._error = error

    def _replace_ended(self) -> None:
        """Submit jobs, and replace those that end while there are blocks for them."""
        self._jobs.submit(self._wanted, self._over)
        began = sent = time.monotonic()
        before, pause, is_explained = 0, _MIN_POLL_S, False
        while not self._over.wait(min(_MAX_POLL_S, max(_MIN_POLL_S, (time.monotonic() - began) / 60))):
            if not is_explained and time.monotonic() > began + _EXPLAIN_AFTER_S:
                is_explained = True
                if self._progress == 0 and (waiting := self._jobs.pending_reason()):
                    logger.warning("the workers are waiting in the queue: %s", waiting)
            while self._to_cancel:
                self._jobs.cancel(self._to_cancel.pop())
            alive = self._jobs.count_active()
            missing = 0 if alive is None else self._wanted - max(0, alive - self._lost)
            if missing <= 0 or time.monotonic() < sent + pause:
                continue
            self._failed_starts = missing if self._progress > before else self._failed_starts + missing
            before = self._progress
            if self._failed_starts > _FAILED_STARTS_PER_WORKER * self._wanted:
                raise NeurosegError(
                    f"{self._failed_starts} workers in a row ended without processing a block; {self._jobs.log_tail()}"
                )
            pause = min(2 * pause, _MAX_PAUSE_S) if time.monotonic() < sent + pause + _SHORT_LIFE_S else _MIN_POLL_S
            self._jobs.submit(missing, self._over)
            sent = time.monotonic()

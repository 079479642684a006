"""The executor `dask`: workers as tasks of any Dask cluster. The one file that imports dask and distributed.

    head                 Dask worker
    crew          ->     a task that starts `neuroseg.workers.remote` and waits for it

Dask only places workers: blocks are handed out by the head, so that nothing is a graph of a million tasks.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from neuroseg.errors import NeurosegError
from neuroseg.execution.cluster.crew import WORKER, newest_words
from neuroseg.execution.door import secret_path
from neuroseg.execution.ending import slow_to_end

_PATIENCE_S = 30
_LOOK_S, _LEAVE_S = 0.5, 10.0

logger = logging.getLogger(__name__)


class DaskConnection:
    """A Dask cluster, connected to when it is first asked for; without an address, one of this machine's processes."""

    def __init__(self, address: str | None, workers: int) -> None:
        self._address, self._workers = address, workers
        self._client: Any = None
        self._cluster: Any = None
        self._turn = threading.Lock()

    def __enter__(self) -> DaskConnection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with slow_to_end():
            for each in (self._client, self._cluster):
                if each is not None:
                    each.close()

    def client(self) -> Any:
        """Return the client; raises NeurosegError when nobody answers at the address."""
        try:
            import distributed
        except ImportError as error:
            raise NeurosegError("--executor dask needs the package distributed: pip install neuroseg[dask]") from error
        with self._turn:
            if self._client is None:
                if self._address is None:
                    self._cluster = distributed.LocalCluster(
                        n_workers=self._workers, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
                    )
                try:
                    self._client = distributed.Client(self._address or self._cluster, timeout=_PATIENCE_S)
                except (OSError, ValueError) as error:
                    raise NeurosegError(f"no Dask scheduler answers at {self._address}: {error}") from error
            return self._client


class DaskJobs:
    """Workers as tasks; those that need GPUs ask for the Dask resource `GPU`. See execution.cluster.crew.Jobs."""

    def __init__(self, client: Any, workspace: Path, logs: Path, kind: str, gpus: int, token: str, head: str) -> None:
        self._client, self._logs, self._kind = client, logs.resolve(), kind
        self._arguments = [str(workspace.resolve()), token, head]
        self._resources = {"GPU": gpus} if gpus else None
        self._futures: list[Any] = []
        logs.mkdir(parents=True, exist_ok=True)

    def waits_for(self) -> str:
        """Return nothing: that a cluster has no worker is said when tasks are submitted."""
        return ""

    def send(self, count: int, over: threading.Event) -> None:
        """Submit `count` tasks."""
        if not self._client.scheduler_info()["workers"]:
            logger.warning("the Dask cluster has no worker yet; waiting for one")
        self._futures += [
            self._client.submit(
                run_worker, self._arguments, str(self._logs), self._kind, pure=False, resources=self._resources
            )
            for _ in range(count)
        ]

    def alive(self) -> int | None:
        """Return how many tasks wait or run; None while the scheduler is not there."""
        if self._client.status != "running":
            return None
        return len([future for future in self._futures if future.status == "pending"])

    def dismiss(self, *, at_once: bool) -> None:
        """Forget the tasks that wait; those that run end by themselves once their connection is closed."""
        if self._client.status == "running":
            self._client.cancel(self._futures, force=True)

    def end(self, job: str) -> None:
        """Nothing: the task ends its worker when the run is over."""

    def last_words(self) -> str:
        """Return the newest log of such workers and its last lines."""
        return newest_words(self._logs, self._kind)


def run_worker(arguments: Sequence[str], logs: str, kind: str) -> int:
    """Run a worker as a process of the Dask worker's, and return its exit code: the task."""
    log = Path(logs) / f"{kind}-{platform.node()}-{os.getpid()}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    line = [sys.executable, "-P", "-m", WORKER, *arguments]
    secret = secret_path(Path(arguments[0]), arguments[1])
    # It dies with this process: Dask gives the task of a worker that is gone to another one.
    environment = {**os.environ, "NEUROSEG_DIES_WITH": str(os.getpid())}
    with log.open("ab") as file:
        worker = subprocess.Popen(line, stdout=file, stderr=file, env=environment)
    while (code := worker.poll()) is None:
        if not secret.exists():  # the run is over; a worker that hangs does not leave
            with contextlib.suppress(subprocess.TimeoutExpired):
                return worker.wait(_LEAVE_S)
            worker.kill()
        time.sleep(_LOOK_S)
    return code

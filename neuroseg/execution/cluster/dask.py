"""The executor `dask`: workers as tasks of any Dask cluster. The only file that imports distributed.

    head                 Dask worker
    launcher      ->     a task that starts `neuroseg.workers.remote` and waits for it

Dask only starts the workers. The head assigns the blocks, so Dask never handles a graph with millions of tasks.
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
from typing import Any

from neuroseg.errors import NeurosegError
from neuroseg.execution.cluster.program import DIES_WITH, Program
from neuroseg.execution.ending import slow_to_end

_CONNECT_TIMEOUT_S = 30
_CHECK_EVERY_S, _EXIT_TIMEOUT_S = 0.5, 10.0

logger = logging.getLogger(__name__)


class DaskConnection:
    """A connection to a Dask cluster, opened on first use. Without an address, starts a cluster on this machine."""

    def __init__(self, address: str | None, workers: int) -> None:
        self._address, self._workers = address, workers
        self._client: Any = None
        self._opened = contextlib.ExitStack()

    def __enter__(self) -> DaskConnection:
        return self

    def __exit__(self, *_: object) -> None:
        with slow_to_end():
            self._opened.close()

    def client(self) -> Any:
        """Return the client. Raises NeurosegError if no scheduler answers at the address."""
        if self._client is not None:
            return self._client
        try:
            import distributed
        except ImportError as error:
            raise NeurosegError(
                "--executor dask needs the package distributed", hint="pip install 'neuroseg[dask]'"
            ) from error
        cluster: Any = self._address
        if cluster is None:
            cluster = distributed.LocalCluster(
                n_workers=self._workers, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
            )
            self._opened.callback(cluster.close)
        try:
            self._client = distributed.Client(cluster, timeout=_CONNECT_TIMEOUT_S)
        except (OSError, ValueError) as error:
            raise NeurosegError(f"no Dask scheduler answers at {self._address}: {error}") from error
        self._opened.callback(self._client.close)
        return self._client


class DaskJobs:
    """Workers as Dask tasks. Workers with GPUs request the Dask resource `GPU`. See execution.cluster.launcher.Jobs."""

    def __init__(self, program: Program, client: Any, gpus: int) -> None:
        self._client, self._program = client, program
        self._resources = {"GPU": gpus} if gpus else None
        self._futures: list[Any] = []
        program.logs.mkdir(parents=True, exist_ok=True)

    def pending_reason(self) -> str:
        """Return why tasks wait: the scheduler is gone, or no worker offers the resources. Else an empty string."""
        if self._client.status != "running":
            return "the Dask scheduler does not answer"
        workers = self._client.scheduler_info()["workers"].values()
        wanted = self._resources or {}
        if any(all(worker["resources"].get(name, 0) >= count for name, count in wanted.items()) for worker in workers):
            return ""
        offer = " and ".join(f"{name}={count}" for name, count in wanted.items())
        return f"no Dask worker offers {offer}" if offer else "the Dask cluster has no worker"

    def submit(self, count: int, over: threading.Event) -> None:
        """Submit `count` tasks."""
        if not self._client.scheduler_info()["workers"]:
            logger.warning("the Dask cluster has no worker yet; waiting for one")
        program = self._program
        given = [program.words, str(program.secret), str(program.logs.resolve()), program.kind]
        self._futures += [
            self._client.submit(run_worker, *given, pure=False, resources=self._resources) for _ in range(count)
        ]

    def count_active(self) -> int | None:
        """Return the number of waiting and running tasks. None while the scheduler is unreachable."""
        if self._client.status != "running":
            return None
        return len([future for future in self._futures if future.status == "pending"])

    def cancel_all(self, *, force: bool) -> None:
        """Cancel the waiting tasks. Running tasks end when their connection to the head closes."""
        if self._client.status == "running":
            self._client.cancel(self._futures, force=True)

    def cancel(self, job: str) -> None:
        """Do nothing. The task ends its worker when the run is over."""

    def log_tail(self) -> str:
        """Return the path of the newest worker log, and its last lines."""
        return self._program.log_tail()


def run_worker(words: Sequence[str], secret: str, logs: str, kind: str) -> int:
    """Run a worker as a child of the Dask worker, and return its exit code. This is the Dask task.

    The worker is killed if it does not exit soon after its secret was removed. It is not started after that.
    """
    if not Path(secret).exists():
        return 0
    log = Path(logs) / f"{kind}-{platform.node()}-{os.getpid()}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    # The worker dies with this process, because Dask then runs the task on another Dask worker.
    environment = {**os.environ, DIES_WITH: str(os.getpid())}
    with log.open("ab") as file:
        worker = subprocess.Popen([sys.executable, *words], stdout=file, stderr=file, env=environment)
    while (code := worker.poll()) is None:
        if not Path(secret).exists():  # the run is over; a hanging worker does not exit
            with contextlib.suppress(subprocess.TimeoutExpired):
                return worker.wait(_EXIT_TIMEOUT_S)
            worker.kill()
        time.sleep(_CHECK_EVERY_S)
    return code

"""The executor `local`: workers are processes on this machine, connected to the head by a pair of sockets."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from neuroseg.errors import NeurosegError
from neuroseg.execution.channel import Channel

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
# Failed starts in a row, per wanted worker, before the run gives up. A start failed if no block was reported since.
_FAILED_STARTS_PER_WORKER = 3
_EXIT_TIMEOUT_S = 5.0


class LocalWorkers:
    """Starts worker processes. Their logs are named after `kind`. See execution.pool.Launcher.

    A new worker takes the place of one that ended.
    """

    def __init__(self, workspace: Path, logs: Path, kind: str) -> None:
        self._workspace, self._logs, self._kind = workspace.resolve(), logs.resolve(), kind
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._places: dict[Channel, int] = {}
        self._new: list[Channel] = []
        self._failed_starts = self._progress = 0

    def scale(self, wanted: int, progress: int) -> None:
        """Start the missing workers. Raises NeurosegError if workers keep ending before they report a block."""
        ended = [place for place, process in self._processes.items() if process.poll() is not None]
        for place in ended:
            del self._processes[place]
        self._failed_starts = self._failed_starts + len(ended) if progress == self._progress else 0
        self._progress = progress
        if wanted and self._failed_starts > _FAILED_STARTS_PER_WORKER * wanted:
            newest = max(self._logs.glob(f"{self._kind}-*.log"), key=lambda log: log.stat().st_mtime).name
            raise NeurosegError(f"the {self._kind} workers keep dying", hint=f"read {newest} in {self._logs}")
        free = (place for place in range(wanted) if place not in self._processes)
        for place in list(free)[: max(0, wanted - len(self._processes))]:
            self._start(place)

    def new_channels(self) -> list[Channel]:
        """Return the channels of the workers started since the last call."""
        new, self._new = self._new, []
        return new

    def kill(self, channel: Channel, job: str | None) -> None:
        """Kill a hanging worker."""
        with contextlib.suppress(KeyError):
            self._processes[self._places.pop(channel)].kill()

    def stop(self, *, force: bool) -> None:
        """End all workers. Kill those that do not exit within 5 seconds; with `force`, kill them immediately."""
        deadline = time.monotonic() + (0 if force else _EXIT_TIMEOUT_S)
        for channel in self.new_channels():
            channel.close()
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            process.kill()
            process.wait()
        self._processes.clear()
        self._places.clear()

    def _start(self, place: int) -> None:
        near, far = socket.socketpair()
        self._logs.mkdir(parents=True, exist_ok=True)
        # -P: do not import from the working directory, which may contain data of others.
        command = [sys.executable, "-P", "-m", "neuroseg.workers.local", str(self._workspace), str(os.getpid())]
        with far, self._log(place).open("ab") as log:
            self._processes[place] = subprocess.Popen(
                command, stdin=far.fileno(), stdout=log, stderr=log, env=environment_of_worker()
            )
        channel = Channel.over(near)
        self._places[channel] = place
        self._new.append(channel)

    def _log(self, place: int) -> Path:
        return self._logs / f"{self._kind}-{place:04d}.log"


def environment_of_worker() -> dict[str, str]:
    """Return the environment of a process that limits each library to one thread, because workers share the cores."""
    return {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, "1")}

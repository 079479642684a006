"""The executor `local`: workers are processes of this machine, each at the other end of a pair of sockets."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from neuroseg.errors import NeurosegError
from neuroseg.execution.channel import Channel

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
# So many workers in a row, for each one wanted, may end without a word about a block between them.
_FRUITLESS = 3
_LEAVE_S = 5.0


class LocalWorkers:
    """Starts worker processes that call themselves `kind` in the names of their logs; see execution.workers.Launcher.

    Each sees one of `gpus`, where there are any, by its place; the place of one that ended falls to the next.
    """

    bell = None

    def __init__(self, workspace: Path, logs: Path, kind: str, gpus: Sequence[str] = ()) -> None:
        self._workspace, self._logs, self._kind, self._gpus = workspace.resolve(), logs.resolve(), kind, gpus
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._places: dict[Channel, int] = {}
        self._new: list[Channel] = []
        self._fruitless = self._progress = 0

    def keep(self, wanted: int, progress: int) -> None:
        """Start the workers that are missing; raises NeurosegError where they end without having done anything."""
        ended = [place for place, process in self._processes.items() if process.poll() is not None]
        for place in ended:
            del self._processes[place]
        self._fruitless = self._fruitless + len(ended) if progress == self._progress else 0
        self._progress = progress
        if wanted and self._fruitless > _FRUITLESS * wanted:
            newest = max(self._logs.glob(f"{self._kind}-*.log"), key=lambda log: log.stat().st_mtime).name
            raise NeurosegError(f"the workers that {self._kind} keep dying; see {newest} in {self._logs}")
        free = (place for place in range(wanted) if place not in self._processes)
        for place in list(free)[: max(0, wanted - len(self._processes))]:
            self._start(place)

    def came(self) -> list[Channel]:
        """Return the channels of the workers that were started since the last call."""
        new, self._new = self._new, []
        return new

    def end(self, channel: Channel, job: str | None) -> None:
        """Kill a worker that hangs."""
        with contextlib.suppress(KeyError):
            self._processes[self._places.pop(channel)].kill()

    def stop(self, *, at_once: bool) -> None:
        """End all workers; those that do not leave by themselves within seconds are killed."""
        deadline = time.monotonic() + (0 if at_once else _LEAVE_S)
        for channel in self.came():
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
        # Nothing is imported from the working directory (-P): it may be a folder of others' data.
        command = [sys.executable, "-P", "-m", "neuroseg.workers.local", str(self._workspace), str(os.getpid())]
        with far, self._log(place).open("ab") as log:
            self._processes[place] = subprocess.Popen(
                command, stdin=far.fileno(), stdout=log, stderr=log, env=self._environment(place)
            )
        channel = Channel.over(near)
        self._places[channel] = place
        self._new.append(channel)

    def _environment(self, place: int) -> dict[str, str]:
        """Return a worker's environment: one thread for each library, since several workers share the cores."""
        environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, "1")}
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[place % len(self._gpus)]
        return environment

    def _log(self, place: int) -> Path:
        return self._logs / f"{self._kind}-{place:04d}.log"

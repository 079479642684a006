"""Standing workers: processes that serve one stage after the other, so that their start is paid once in a run.

    head                     daisy                           standing worker
    starts N of them,        starts visitors, N a stage  ->  drains the stage that a visitor names, answers "done",
    each with a socket       (handover.py)                   waits for the next visitor

Nobody supervises; whoever is left behind notices by itself:

    a worker dies    its visitor reads the end of the connection and fails, so daisy sends another one; whoever finds
                     no worker free becomes one (it takes the place of the dead one)
    a visitor dies   (daisy stopped it) its worker reads the end of the connection and dies too
    the head dies    the pipe to each worker's input ends, and they die
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from neuroseg.execution.handover import DONE, one_threaded

_DIED = 1

logger = logging.getLogger(__name__)


class StandingWorkers:
    """The standing workers of a run; none is started before `ready` is called. Leaving the context ends them."""

    def __init__(self, command: Sequence[str], logs: Path) -> None:
        self._command, self._logs = list(command), logs
        self._folder: Path | None = None
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> StandingWorkers:
        return self

    @property
    def are_there(self) -> bool:
        """Whether `ready` has started any."""
        return bool(self._processes)

    def ready(self, count: int) -> Path:
        """Return the folder of the workers' sockets and locks; the first call starts `count` workers.

        Where no socket can be made (its path has at most about a hundred letters), it returns a folder without any:
        then every stage starts workers of its own.
        """
        if self._folder is None:
            self._logs.mkdir(parents=True, exist_ok=True)
            self._folder = _folder_of(self._logs)
            try:
                # The workspace is locked: what lies there was left by a run that was killed.
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder.mkdir(mode=0o700)
                for number in range(count):
                    self._start(self._folder / f"{number:04d}")
            except OSError as error:
                logger.info("every stage starts its own workers: %s: %s", self._folder, error)
                self._folder = self._logs
        return self._folder

    def _start(self, path: Path) -> None:
        # The head listens before the worker is there, so that no visitor comes too early; it keeps no copy, so that
        # visitors of a dead worker are turned away.
        with socket.socket(socket.AF_UNIX) as listening, (self._logs / f"worker-{path.name}.log").open("ab") as log:
            listening.bind(str(path))
            listening.listen(1)
            descriptor = listening.fileno()
            self._processes.append(
                subprocess.Popen(
                    [*self._command, str(descriptor)], pass_fds=[descriptor], stdin=subprocess.PIPE, stdout=log,
                    stderr=log, env=one_threaded(),
                )
            )  # fmt: skip
        path.with_suffix(".lock").touch()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self._processes:
            process.wait()
        if self._folder is not None and self._folder != self._logs:
            shutil.rmtree(self._folder, ignore_errors=True)


def _folder_of(logs: Path) -> Path:
    """Return a place for sockets that belongs to this user and workspace alone, and has a short name."""
    token = hashlib.sha256(str(logs.resolve()).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"neuroseg-{os.getuid()}-{token}"


def serve(listening: socket.socket, drain_stage: Callable[[str], None]) -> None:
    """Serve visitors one after the other until this process's input ends: the body of a standing worker."""
    _watch(lambda: os.read(sys.stdin.fileno(), 1), unless=threading.Event())
    while True:
        visitor, _ = listening.accept()
        with visitor:
            with visitor.makefile() as words:
                line = words.readline()
            if not line:
                continue
            stage, os.environ["DAISY_CONTEXT"] = json.loads(line)
            done = threading.Event()
            watching = _watch(functools.partial(visitor.recv, 1), unless=done)
            drain_stage(stage)
            done.set()
            visitor.sendall(DONE)
            watching.join()


def _watch(wait_for_end: Callable[[], object], unless: threading.Event) -> threading.Thread:
    """End this process as soon as `wait_for_end` returns, unless the event is set: blocks are atomic."""

    def watch() -> None:
        wait_for_end()
        if not unless.is_set():
            os._exit(_DIED)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread

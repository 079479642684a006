"""Standing workers: processes that serve one stage after the other, so that their start is paid once in a run.

    head                     daisy                           standing worker
    starts N of them,        starts visitors, N a stage  ->  drains the stage that a visitor names, answers "done",
    each with a socket       (handover.py)                   waits for the next visitor

A stage of one block needs no daisy: the head itself is its visitor. Nobody supervises; whoever is left behind notices
by itself:

    a worker dies    its visitor reads the end of the connection and fails, so daisy sends another one; whoever finds
                     no worker free becomes one (it takes the place of the dead one)
    a visitor dies   (daisy stopped it) its worker reads the end of the connection and dies too
    the head dies    the socket by which it hired each worker ends, and they die
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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from neuroseg.execution.handover import DONE, one_threaded, visit
from neuroseg.execution.recruits import Recruit

_DIED = 1
_LETTER_BYTES = 1 << 16
# The worker of a command is its own interpreter unless the command has recruits (recruits.py).
_COMMAND = (sys.executable, "-P", "-m", "neuroseg.workers.local", "--standing")

logger = logging.getLogger(__name__)

Work = Mapping[str, Any]
"""What a visitor wants: `stage`, and `context`, by which daisy's scheduler is found, or `block`, one index."""


class StandingWorkers:
    """The standing workers of a run; none is hired before `ready` is called. Leaving the context ends them.

    `recruits` are hired first, then processes are started.
    """

    def __init__(self, workspace: Path, logs: Path, recruits: Sequence[Recruit] = ()) -> None:
        self._workspace, self._logs = workspace.resolve(), logs
        self._recruits = list(recruits)
        self._hired: list[Recruit] = []
        self._folder: Path | None = None

    def __enter__(self) -> StandingWorkers:
        return self

    @property
    def are_there(self) -> bool:
        """Whether `ready` has hired any."""
        return bool(self._hired)

    def ready(self, count: int) -> Path:
        """Return the folder of the workers' sockets and locks; the first call hires `count` workers.

        Where no socket can be made (its path has at most about a hundred letters), it returns a folder without any:
        then every stage starts workers of its own.
        """
        if self._folder is None:
            self._logs.mkdir(parents=True, exist_ok=True)
            try:
                self._folder = _folder_of(self._logs)
                # The workspace is locked: what lies there was left by a run that was killed.
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder.mkdir(mode=0o700)
                for number in range(count):
                    self._hire(self._folder / f"{number:04d}")
            except OSError as error:
                logger.info("every stage starts its own workers: %s: %s", self._folder, error)
                self._folder = self._logs
        return self._folder

    def did(self, stage: str, block: int, timeout_s: float) -> bool:
        """Return whether a standing worker did one block; where it did not, the block is done in another way."""
        work = {"stage": stage, "block": block}
        return self._folder is not None and visit(self._folder, work, timeout_s) == DONE

    def _hire(self, path: Path) -> None:
        # The head listens before the worker is there, so that no visitor comes too early; it keeps no copy, so that
        # visitors of a dead worker are turned away.
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
            listening.listen(1)
            recruit = self._recruits.pop(0) if self._recruits else _started()
            self._hired.append(recruit)
            letter = {"workspace": str(self._workspace), "log": str(self._logs.resolve() / f"worker-{path.name}.log")}
            socket.send_fds(recruit.control, [json.dumps(letter).encode()], [listening.fileno()])
        path.with_suffix(".lock").touch()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for recruit in self._hired:
            recruit.control.close()
        for recruit in self._hired:
            recruit.wait()
        if self._folder is not None and self._folder != self._logs:
            shutil.rmtree(self._folder, ignore_errors=True)


def _started() -> Recruit:
    """Return a new process whose input is the socket by which it is hired."""
    near, far = socket.socketpair()
    with far:
        process = subprocess.Popen(_COMMAND, stdin=far.fileno(), env=one_threaded())
    return Recruit(near, process.wait)


def _folder_of(logs: Path) -> Path:
    """Return a place for sockets that belongs to this user and workspace alone, and has a short name."""
    token = hashlib.sha256(str(logs.resolve()).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"neuroseg-{os.getuid()}-{token}"


def serve(control: socket.socket, set_up: Callable[[], None], do: Callable[[Path, Work], bool]) -> None:
    """Wait to be hired, then serve visitors one after the other until the head is gone: a standing worker's life."""
    letter, descriptors, _, _ = socket.recv_fds(control, _LETTER_BYTES, 1)
    if not descriptors:
        return
    hired = json.loads(letter)
    _write_into(Path(hired["log"]))
    _watch(lambda: control.recv(1), unless=threading.Event())
    set_up()
    listening = socket.socket(fileno=descriptors[0])
    while True:
        visitor, _ = listening.accept()
        with visitor:
            with visitor.makefile() as words:
                line = words.readline()
            if not line:
                continue
            done = threading.Event()
            watching = _watch(functools.partial(visitor.recv, 1), unless=done)
            answer = DONE if do(Path(hired["workspace"]), json.loads(line)) else b"-"
            done.set()
            visitor.sendall(answer)
            watching.join()


def _write_into(log: Path) -> None:
    """Append what this process says to a log."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.close(descriptor)


def _watch(wait_for_end: Callable[[], object], unless: threading.Event) -> threading.Thread:
    """End this process as soon as `wait_for_end` returns, unless the event is set: blocks are atomic."""

    def watch() -> None:
        wait_for_end()
        if not unless.is_set():
            os._exit(_DIED)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread

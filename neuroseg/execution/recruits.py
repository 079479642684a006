"""Recruits: processes that are forked while a command has loaded its modules and done nothing yet.

    command: imports, forks recruits, plans ...   ->  hires them as standing workers (standing.py)

A worker that starts as an interpreter of its own imports for a second what the command has imported too. Forking is
safe as long as there are no threads, so it is done first of all, and by commands alone: a program that uses neuroseg as
a library may have any.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from neuroseg.execution.handover import die_with_parent

_PATIENCE_S, _LOOK_S = 5.0, 0.002


class Recruit(NamedTuple):
    """A process that waits at the other end of `control`, which ends it when it is closed; `wait` returns then."""

    control: socket.socket
    wait: Callable[[], object]


@contextmanager
def forked(count: int, live: Callable[[socket.socket], None]) -> Iterator[list[Recruit]]:
    """Yield `count` forks of this process, or as many as it may have; each of them calls `live` and ends.

    Where there are threads already there are none: a fork would have what they hold, and nobody to let it go. Leaving
    the context ends them all.
    """
    made = _forks(count, live) if threading.active_count() == 1 else []
    try:
        yield made
    finally:
        for recruit in made:
            recruit.control.close()
        for recruit in made:
            recruit.wait()


def _forks(count: int, live: Callable[[socket.socket], None]) -> list[Recruit]:
    made: list[Recruit] = []
    command = os.getpid()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    for _ in range(count):
        near, far = socket.socketpair()
        try:
            process = os.fork()
        except OSError:  # no more processes are allowed: some recruits, or none, will do
            near.close()
            far.close()
            break
        if process == 0:
            _live(far, [near, *(recruit.control for recruit in made)], live, command)
        far.close()
        made.append(Recruit(near, partial(_wait, process)))
    return made


def _wait(process: int) -> None:
    """Wait for a fork that was told to end; one that does not hear it is killed."""
    deadline = time.monotonic() + _PATIENCE_S
    with contextlib.suppress(ChildProcessError):  # it was waited for before
        while os.waitpid(process, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
                return
            time.sleep(_LOOK_S)


def _live(
    control: socket.socket, others: list[socket.socket], live: Callable[[socket.socket], None], command: int
) -> None:
    """Be a recruit of the process `command`: nothing of what the command has begun is ended by it. Never returns."""
    code = 1
    try:
        die_with_parent(command)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
        sys.unraisablehook = sys.__unraisablehook__
        sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
        # An end that a sibling holds too would not end with the head.
        for other in others:
            other.close()
        live(control)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)

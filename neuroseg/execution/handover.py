"""How a process that daisy started becomes a worker, or has a standing one do its work.

Imports next to nothing: every worker pays for it.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

DONE = b"done"
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def become_worker(command: Sequence[str]) -> None:
    """Replace this process by `command`, with one thread per library: cores are used by several workers."""
    os.execve(command[0], list(command), one_threaded())


def visit_or_become_worker(standing: Path, stage: str, command: Sequence[str]) -> None:
    """Have a standing worker (execution/standing.py) drain the stage; where none is free, become a worker.

    Exits with 1 when the worker dies meanwhile. The lock says that the worker is taken; it ends with this process.
    """
    for lock in sorted(standing.glob("*.lock")):
        with lock.open("w") as held, socket.socket(socket.AF_UNIX) as worker:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                worker.connect(str(lock.with_suffix("")))
            except OSError:
                continue
            try:
                worker.sendall(f"{json.dumps([stage, os.environ['DAISY_CONTEXT']])}\n".encode())
                answer = worker.recv(len(DONE))
            except OSError:
                answer = b""
            sys.exit(0 if answer == DONE else 1)
    become_worker(command)


def one_threaded() -> dict[str, str]:
    """Return the environment of a worker."""
    return {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, "1")}

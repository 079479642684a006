"""How a process that daisy started becomes a worker, or has a standing one do its work.

Imports next to nothing: every worker pays for it.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import itertools
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

DONE = b"done"
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def become_worker(command: Sequence[str], head: int, gpus: Sequence[str] = (), places: Path | None = None) -> None:
    """Replace this process by `command`, with one thread per library: cores are used by several workers.

    `head` is the process that must have started it. It sees one of `gpus` alone, where there are any: the first place
    that no other worker of `places`, a folder of the run, holds says which.
    """
    die_with_parent(head)
    environment = one_threaded()
    if gpus and places is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[_taken_place(places) % len(gpus)]
    os.execve(command[0], list(command), environment)


def _taken_place(places: Path) -> int:
    """Return the number of the first free place, which is held until the process, or what it becomes, ends.

    A place is an abstract socket's name (Linux): the kernel frees it, and no disk needs to know locks.
    """
    run = hashlib.sha256(str(places.resolve()).encode()).hexdigest()[:16]
    for number in itertools.count():
        place = socket.socket(socket.AF_UNIX)
        try:
            place.bind(f"\0neuroseg-gpu-{os.getuid()}-{run}-{number}")
        except OSError as error:
            place.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            os.set_inheritable(place.detach(), True)
            return number
    raise AssertionError("numbers do not end")


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent is gone, however that ended; only Linux can.

    A worker would otherwise go on with its block, minutes for a large one, when its head was killed. Where another
    process than `parent` is the parent by then, it is gone already: this process ends.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def visit_or_become_worker(standing: Path, stage: str, command: Sequence[str], head: int) -> None:
    """Have a standing worker (execution/standing.py) drain the stage; where none is free, become a worker.

    Exits with 1 when the worker dies meanwhile.
    """
    die_with_parent(head)
    answer = visit(standing, {"stage": stage, "context": os.environ["DAISY_CONTEXT"]})
    if answer is None:
        become_worker(command, head)
    sys.exit(0 if answer == DONE else 1)


def visit(standing: Path, work: Mapping[str, object], timeout_s: float | None = None) -> bytes | None:
    """Have a standing worker do some work; returns its answer, empty when it died, failed or took too long (then it
    dies), None where no worker is free. The lock says that the worker is taken; it ends with this process.
    """
    for lock in sorted(standing.glob("*.lock")):
        with lock.open("w") as held, socket.socket(socket.AF_UNIX) as worker:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                worker.connect(str(lock.with_suffix("")))
            except OSError:
                continue
            worker.settimeout(timeout_s)
            try:
                worker.sendall(f"{json.dumps(work)}\n".encode())
                return worker.recv(len(DONE))
            except OSError:
                return b""
    return None


def one_threaded() -> dict[str, str]:
    """Return the environment of a worker."""
    return {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, "1")}

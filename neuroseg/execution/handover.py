"""How a process that daisy started becomes a worker, or has a standing one do its work.

Imports next to nothing: every worker pays for it.
"""

from __future__ import annotations

import ctypes
import fcntl
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


def become_worker(command: Sequence[str], gpus: Sequence[str] = (), places: Path | None = None) -> None:
    """Replace this process by `command`, with one thread per library: cores are used by several workers.

    It sees one of `gpus` alone, where there are any: the first place that no other worker holds in `places` says which.
    """
    die_with_parent()
    environment = one_threaded()
    if gpus and places is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[_taken_place(places) % len(gpus)]
    os.execve(command[0], list(command), environment)


def _taken_place(places: Path) -> int:
    """Return the number of the first free place, which is held until the process, or what it becomes, ends."""
    number = 0
    while True:
        descriptor = os.open(places / f".gpu-{number}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            number += 1
        else:
            os.set_inheritable(descriptor, True)
            return number


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent is gone, however that ended; only Linux can.

    A worker would otherwise go on with its block, minutes for a large one, when its head was killed.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def visit_or_become_worker(standing: Path, stage: str, command: Sequence[str]) -> None:
    """Have a standing worker (execution/standing.py) drain the stage; where none is free, become a worker.

    Exits with 1 when the worker dies meanwhile.
    """
    die_with_parent()
    answer = visit(standing, {"stage": stage, "context": os.environ["DAISY_CONTEXT"]})
    if answer is None:
        become_worker(command)
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

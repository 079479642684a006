"""How a process that daisy started becomes a worker. Imports next to nothing: every worker pays for it twice."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def become_worker(command: Sequence[str]) -> None:
    """Replace this process by `command`, with one thread per library: cores are used by several workers."""
    die_with_parent()
    os.execve(command[0], list(command), {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, "1")})


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent is gone, however that ended; only Linux can.

    A worker would otherwise go on with its block, minutes for a large one, when its head was killed.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

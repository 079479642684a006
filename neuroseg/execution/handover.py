"""How a process that daisy started becomes a worker. Imports next to nothing: every worker pays for it twice."""

from __future__ import annotations

import os
from collections.abc import Sequence

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def become_worker(command: Sequence[str]) -> None:
    """Replace this process by `command`, with one thread per library: cores are used by several workers."""
    os.execve(command[0], list(command), {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, "1")})

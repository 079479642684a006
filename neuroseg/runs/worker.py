"""The worker process: set up stages of a workspace from its plan, and process their blocks."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from neuroseg.execution.channel import Channel
from neuroseg.execution.serving import serve
from neuroseg.runs.plan import read_plan
from neuroseg.stage import Stage
from neuroseg.storage.arrays import use_threads
from neuroseg.storage.workspace import Workspace

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGEST_KEPT_BYTES = 1 << 29
_LARGEST_KEPT_BY_OLD_BYTES = 1 << 25


def set_up() -> None:
    """Set up logging with times, limit this process to one thread, and let Ctrl-C end it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", force=True)
    # Blocks are atomic, so an interrupted worker may exit in the middle of one.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    use_threads(1)
    _keep_freed_memory()
    _load_compiler()


def _keep_freed_memory() -> None:
    """Let the C library keep freed memory for the next arrays. Each block needs the same amount.

    By default, glibc returns large arrays to the system, which must then fill new pages with zeros for each array.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        change = ctypes.CDLL(None).mallopt
        # glibc before 2.35 refuses a first limit above 32 MiB. If only the second limit were set, every array above
        # 128 KiB would be returned, which is slower than the default.
        if change(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES) or change(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BY_OLD_BYTES):
            change(_M_TRIM_THRESHOLD, _LARGEST_KEPT_BYTES)


def _load_compiler() -> None:
    """Import numba's array functions without scipy's linear algebra, which no kernel uses.

    numba imports it only to check that it exists. This takes a quarter of a second in every worker.
    """
    unwanted = "scipy.linalg.cython_blas"
    if unwanted in sys.modules:
        return
    sys.modules[unwanted] = None  # type: ignore[assignment]
    try:
        importlib.import_module("numba.np.arraymath")
    finally:
        del sys.modules[unwanted]


def work(
    workspace_path: Path,
    channel: Channel,
    *,
    exit_on_setup_error: bool = False,
    on_lost_head: Callable[[], None] = lambda: None,
) -> None:
    """Run a worker until the run is over; see execution.serving.serve."""
    set_up()
    workspace = Workspace(workspace_path)

    def find(name: str) -> Stage:
        return read_plan(workspace).stage(workspace, name)

    serve(channel, workspace, find, exit_on_setup_error=exit_on_setup_error, on_lost_head=on_lost_head)

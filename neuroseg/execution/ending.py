"""How long the supervisor (cli/supervisor.py) lets the head take to end after Ctrl-C: the head announces it.

supervisor, head: one byte of memory that both see (they are forks)   0: ends within seconds
                                                                      more: cancels jobs, saves a training
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_shared = mmap.mmap(-1, 1)
_turn = threading.Lock()


@contextmanager
def slow_to_end() -> Iterator[None]:
    """Announce that what goes on takes its time to end: a cluster cancels jobs, a training saves."""
    _add(1)
    try:
        yield
    finally:
        _add(-1)


def _add(number: int) -> None:
    with _turn:
        _shared[0] = max(0, _shared[0] + number)


def is_slow_to_end() -> bool:
    """Return whether the head has announced it."""
    return _shared[0] > 0

"""The head's announcement that it needs longer to end after Ctrl-C. The supervisor (cli/supervisor.py) reads it.

Both processes share one byte of memory, because the head is a fork of the supervisor:
0: the head ends within seconds    1 or more: it cancels jobs or saves a training
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_shared = mmap.mmap(-1, 1)
_lock = threading.Lock()


@contextmanager
def slow_to_end() -> Iterator[None]:
    """Announce that this process needs longer to end: it cancels jobs or saves a training."""
    _add(1)
    try:
        yield
    finally:
        _add(-1)


def _add(number: int) -> None:
    with _lock:
        _shared[0] = max(0, _shared[0] + number)


def is_slow_to_end() -> bool:
    """Return whether the head has announced that it needs longer to end."""
    return _shared[0] > 0

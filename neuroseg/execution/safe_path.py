"""Processes that import nothing from the working directory: it may be a folder of others' data."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_VARIABLE = "PYTHONSAFEPATH"
_lock = threading.Lock()
_entered = 0
_before: str | None = None


@contextmanager
def nothing_imported_from_here() -> Iterator[None]:
    """Let every Python that this process starts meanwhile leave the working directory out of its path.

    For those whose command line is not ours, of daisy and multiprocessing. It holds for the whole process; the last of
    those that are within restores its environment.
    """
    global _entered, _before
    with _lock:
        if not _entered:
            _before = os.environ.get(_VARIABLE)
            os.environ[_VARIABLE] = "1"
        _entered += 1
    try:
        yield
    finally:
        with _lock:
            _entered -= 1
            if not _entered:
                os.environ.pop(_VARIABLE, None)
                if _before is not None:
                    os.environ[_VARIABLE] = _before

"""Simulate an unreliable disk. Python imports this if the folder is on its path (scripts/soak.py sets it).

With SOAK_ERRORS=SEED:RATE:FOLDER, the share RATE of renames and of opening files for reading below FOLDER fails.
"""

from __future__ import annotations

import errno
import io
import os
import random
from collections.abc import Callable
from typing import Any

_seed, _rate, _folder = os.environ.get("SOAK_ERRORS", "0:0:/nowhere").split(":", 2)
_chance = random.Random()


def _begin() -> None:
    """Give each process other errors."""
    _chance.seed(f"{_seed}-{os.getpid()}")


def _unreliable(act: Callable[..., Any], concerned: Callable[..., str]) -> Callable[..., Any]:
    def unreliable(*given: Any, **more: Any) -> Any:
        path = concerned(*given, **more)
        if path.startswith(_folder) and _chance.random() < float(_rate):
            raise OSError(errno.EIO, "injected", path)
        return act(*given, **more)

    return unreliable


def _renamed(source: Any, target: Any, **more: Any) -> str:
    return str(target)


def _read(file: Any, mode: str = "r", *given: Any, **more: Any) -> str:
    return str(file) if mode == "rb" else ""


_begin()
os.register_at_fork(after_in_child=_begin)
os.replace = _unreliable(os.replace, _renamed)
io.open = _unreliable(io.open, _read)  # pathlib and zarr read with it

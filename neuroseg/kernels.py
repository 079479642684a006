"""How kernels are compiled: when first called, without Python's lock, and kept for the next process where possible.

A cache that cannot be read or written costs the time to compile again, never a block.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache

from neuroseg.caches import choose_kernel_folder

logger = logging.getLogger(__name__)
_told = False


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a kernel: the function, compiled by numba for the types that it is first called with."""
    kernel: Any = numba.njit(nogil=True)(function)
    if _FOLDER is not None:
        with contextlib.suppress(RuntimeError):  # this source's own folder is unlike the others
            kernel._cache = _Kept(function)
    return kernel  # type: ignore[no-any-return]


class _Kept(FunctionCache):  # type: ignore[misc]
    """numba's cache of a function; where it fails, the function is compiled once more."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return what was compiled for a signature; None where there is nothing that can be read."""
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:
            # Files that a crash left empty fail in many ways.
            logger.info("%s: %s: compiled again", self.cache_path, error)
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what was compiled for a signature, where the disk lets us."""
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _tell_once(f"cannot keep compiled kernels in {self.cache_path}: {error.strerror}; each process compiles")
            self.disable()


def _tell_once(message: str) -> None:
    global _told
    if not _told:
        _told = True
        logger.warning("%s them again. Set NUMBA_CACHE_DIR to a folder with space", message)


def _chosen() -> str | None:
    """Return the folder of kernels, after numba was made to use it, which may have been imported before."""
    beside = Path(__file__).parent
    folder = choose_kernel_folder(beside)
    numba.config.CACHE_DIR = "" if folder in (None, str(beside / "__pycache__")) else folder
    return folder


_FOLDER = _chosen()

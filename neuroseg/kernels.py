"""Compilation of numba kernels: at the first call, without Python's lock, and cached for later processes if possible.

If the cache cannot be read or written, the kernel is compiled again. A block never fails because of it.
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
_warned = False


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function as a numba kernel, compiled at the first call for the types of its arguments."""
    kernel: Any = numba.njit(nogil=True)(function)
    if _FOLDER is not None:
        with contextlib.suppress(RuntimeError):  # numba finds no cache folder for this source file
            kernel._cache = _KernelCache(function)
    return kernel  # type: ignore[no-any-return]


class _KernelCache(FunctionCache):  # type: ignore[misc]
    """numba's cache of one function. If it fails, the function is compiled again."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled code for a signature, or None if there is none or it cannot be read."""
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:
            # Files left empty by a crash raise many kinds of errors.
            logger.info("cannot read compiled kernels in %s (%s), compiling again", self.cache_path, error)
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save the compiled code for a signature. If the disk refuses, warn once and continue without a cache."""
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _warn_once(self.cache_path, str(error.strerror))
            self.disable()


def _warn_once(folder: str, reason: str) -> None:
    global _warned
    if not _warned:
        _warned = True
        logger.warning(
            "cannot save compiled kernels in %s: %s. Each process compiles them again, which takes longer. "
            "Set NUMBA_CACHE_DIR to a folder on a disk with free space",
            folder,
            reason,
        )


def _set_cache_folder() -> str | None:
    """Return the folder of compiled kernels and make numba use it. numba may have been imported before."""
    sources = Path(__file__).parent
    folder = choose_kernel_folder(sources)
    numba.config.CACHE_DIR = "" if folder in (None, str(sources / "__pycache__")) else folder
    return folder


_FOLDER = _set_cache_folder()

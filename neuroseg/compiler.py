"""numba, and its cache of compiled kernels.

If the cache cannot be read or written, the kernel is compiled again. A block never fails because of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache

logger = logging.getLogger(__name__)
_warned = False


def dispatcher_of(
    function: Callable[..., Any],
    files: Sequence[str],
    constants: Sequence[str],
    folder: str | None,
    *,
    is_default: bool,
    is_in_place: bool,
) -> Any:
    """Return numba's dispatcher of a function, with a cache in `folder`, which may be numba's default.

    `is_in_place`: the function creates no arrays, and references to arrays are not counted.

    If one of the files or constants that are frozen in the compiled code changes, the function is compiled again. numba
    itself looks only at the file of the function.
    """
    # numba may have been imported before the folder was chosen.
    numba.config.CACHE_DIR = "" if folder is None or is_default else folder
    dispatcher: Any = numba.njit(nogil=True, _nrt=not is_in_place)(function)
    if folder is not None:
        with contextlib.suppress(RuntimeError, OSError):  # no cache folder for this source file, or no source file
            dispatcher._cache = _KernelCache(function)
            dispatcher._cache._cache_file._source_stamp = [*map(_hash_of, files), *constants]
    return dispatcher


@cache
def _hash_of(file: str) -> str:
    return hashlib.blake2b(Path(file).read_bytes(), digest_size=16).hexdigest()


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
        """Save the compiled code for a signature. If that fails, warn once and continue without a cache."""
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

"""The memory for large tables, and arrays in temporary files for those that do not fit."""

from __future__ import annotations

import logging
import mmap
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroseg.storage.free_memory import free_memory_bytes
from neuroseg.storage.space import path_in_errors
from neuroseg.tables import Allocate

_SMALL_BYTES = 2**20
_BYTES_OF_A_PROGRAM = 320 * 2**20  # of a worker or the head, without tables
_SHARE_OF_FREE_MEMORY = 0.8

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TableMemory:
    """Memory for the tables of the workers of a machine. `limit_bytes`: of all its processes. None: what is free."""

    limit_bytes: int | None
    workers: int

    def allocator(self, needed_bytes: int, folder: Path, tasks: int = 1) -> Allocate:
        """Return the function that allocates the arrays of a task that needs some memory in all.

        If that is more than there is, arrays are in temporary files in `folder`. `tasks`: how many such tasks there
        are. Workers do them at the same time.
        """
        available = self._available_bytes() // max(1, min(self.workers, tasks))
        if needed_bytes <= available:
            return np.empty
        logger.info(
            "tables of %d MiB are in temporary files, because %d MiB of memory are available",
            needed_bytes >> 20,
            available >> 20,
        )
        return arrays_in_files(folder)

    def _available_bytes(self) -> int:
        free = int(_SHARE_OF_FREE_MEMORY * free_memory_bytes())
        if self.limit_bytes is None:
            return free
        programs = (self.workers + 1) * _BYTES_OF_A_PROGRAM
        return min(free, max(self.limit_bytes - programs, self.limit_bytes // 4))


def arrays_in_files(folder: Path, small_bytes: int = _SMALL_BYTES) -> Allocate:
    """Return a function that allocates an array for a shape and a dtype, with zeros, in a file without a name.

    Arrays of less than `small_bytes` stay in memory. The system writes parts of the file to the disk of `folder` when
    memory is short, and removes the file with the array, also if the process is killed. The function raises OSError if
    the disk is full.
    """

    def allocate(shape: Any, dtype: Any) -> NDArray[Any]:
        length = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if length < small_bytes or not length:
            return np.zeros(shape, dtype)
        with path_in_errors(folder), tempfile.TemporaryFile(dir=folder, prefix=".table-") as file:
            # Without space for all of it, a later write to the array would kill the process.
            os.posix_fallocate(file.fileno(), 0, length)
            mapped = mmap.mmap(file.fileno(), length)
        return np.frombuffer(mapped, dtype).reshape(shape)

    return allocate

"""Arrays in temporary files that are mapped into memory, for tables that are larger than memory."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroseg.storage.space import path_in_errors

_SMALL_BYTES = 2**20


def arrays_in_files(folder: Path, small_bytes: int = _SMALL_BYTES) -> Callable[[Any, Any], NDArray[Any]]:
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

"""The state after the first lines of a file of marks, saved beside it, so that these lines need not be read again.

    marks          lines ............................ | lines that follow
    marks.index    arrays: the state after these lines; where they end; their first and last bytes

It is a cache: without it, or if it belongs to another file of marks, the file is read from its beginning.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from neuroseg.storage.publish import published

Arrays = Mapping[str, NDArray[Any]]

_COMPARED_BYTES = 64


def write_index(path: Path, arrays: Arrays, marks: BinaryIO, end: int) -> None:
    """Save the state after the first `end` bytes of the file `marks`, which must be flushed to disk."""
    compared = np.frombuffer(_ends_of(marks, end), np.uint8)
    with published(path) as aside, aside.open("wb") as file:
        np.savez(file, allow_pickle=False, end=np.array(end), compared=compared, **arrays)


def read_index(path: Path, marks: BinaryIO) -> tuple[dict[str, NDArray[Any]], int] | None:
    """Return the saved state, and how many bytes of `marks` it covers. None if there is none for this file."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
            end = int(saved["end"])
            if _ends_of(marks, end) != saved["compared"].tobytes():
                return None
            return {name: saved[name] for name in saved.files}, end
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # missing, or damaged: each array has a checksum


def _ends_of(marks: BinaryIO, end: int) -> bytes:
    """Return the first bytes of a file, which are random, and the last ones before `end`. Shorter if it is shorter."""
    marks.seek(0)
    beginning = marks.read(_COMPARED_BYTES)
    marks.seek(max(0, end - _COMPARED_BYTES))
    return beginning + marks.read(min(end, _COMPARED_BYTES))

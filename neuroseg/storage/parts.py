"""Tables on disk: one Parquet file per block (a part), or one for the whole volume."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from neuroseg.errors import DamagedError
from neuroseg.storage.publish import published
from neuroseg.tables import LOOKUP, Table

_PAUSES_S = (0.05, 0.5)


def write_table(path: Path, table: Table) -> None:
    """Write a table in one step; a part that exists is replaced."""
    with published(path) as aside, aside.open("wb") as file:
        pq.write_table(
            pa.table({name: _as_arrow(column) for name, column in table.items()}),
            file,
            compression="zstd",
            use_dictionary=False,
            write_page_checksum=True,
        )


def read_table(path: Path, columns: Mapping[str, type[np.generic]]) -> Table:
    """Return the table at `path`; raises DamagedError when it is missing, damaged or lacks a column."""
    try:
        stored = stored_table(path, list(columns))
    except FileNotFoundError as error:
        raise DamagedError(
            f"{path} is missing: removed, or its stage did not finish; redo it with --restart"
        ) from error
    except (pa.ArrowException, OSError) as error:
        raise DamagedError(f"{path} is damaged ({error}); redo its stage with --restart") from error
    return {name: _as_numpy(stored[name]).astype(dtype, copy=False) for name, dtype in columns.items()}


def stored_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Return what a file holds, checksums compared; raises FileNotFoundError, OSError or ArrowException.

    A reduce reads thousands of files: a disk or network that fails for a moment must not cost all of them.
    """
    for pause_s in (*_PAUSES_S, None):
        try:
            # An open file: pyarrow would take a path with a colon for a URI.
            with path.open("rb") as opened, pq.ParquetFile(opened, page_checksum_verification=True) as file:
                return file.read(columns=columns, use_threads=False)
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError):
            if pause_s is None:
                raise
            time.sleep(pause_s)
    raise AssertionError("the last try returns or raises")


# pyarrow's own conversions import pandas where it is installed, which takes longer than many a table.


def _as_arrow(column: NDArray[Any]) -> pa.Array:
    values = np.ascontiguousarray(column)
    if values.ndim != 1 or values.dtype.kind not in "iuf":
        raise TypeError(f"a column is a row of numbers, found {values.ndim}D {values.dtype}")
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])


def _as_numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    """Return a column that has no nulls."""
    dtype = np.dtype(column.type.to_pandas_dtype())
    pieces = [
        np.frombuffer(chunk.buffers()[1], dtype, len(chunk), chunk.offset * dtype.itemsize)
        for chunk in column.chunks
        if len(chunk)
    ]
    return np.concatenate([np.empty(0, dtype), *pieces])


def write_lookup(path: Path, lookup: Table) -> None:
    """Write a lookup table (fragment, segment) in one step, as an array `(2, n)` uint64."""
    columns = np.stack([lookup[name].astype(dtype) for name, dtype in LOOKUP.items()])
    with published(path) as aside, aside.open("wb") as file:
        # np.save would hide from its error that the disk is full.
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(columns))
        file.write(columns.data)


def map_lookup(path: Path) -> Table:
    """Return a lookup table whose columns are mapped, not read: a block touches only the pages of its fragments."""
    try:
        columns = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise DamagedError(f"{path} is missing or damaged ({error}); redo it with --restart relabel") from error
    return dict(zip(LOOKUP, columns, strict=True))


def part_path(folder: Path, block: int) -> Path:
    """Return the file of one block's part."""
    return folder / f"{block:08d}.parquet"


def read_parts(folder: Path, blocks: Iterable[int], columns: Mapping[str, type[np.generic]]) -> list[Table]:
    """Return the parts of `blocks`, in that order."""
    return [read_table(part_path(folder, block), columns) for block in blocks]

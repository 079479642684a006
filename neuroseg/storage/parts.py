"""Read and write tables: one Parquet file per block (a part), or one file for the whole volume."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from neuroseg.errors import DamagedError, MissingPartError
from neuroseg.storage.publish import published
from neuroseg.storage.remote_path import RemotePath
from neuroseg.storage.trees import Place, remove_all, renew_listing
from neuroseg.tables import LOOKUP, Table

_PAUSES_S = (0.05, 0.5)
_COPIED_BYTES = 1 << 24
_PART = ".parquet"
# Large folders are slow on network disks.
FILES_A_FOLDER = 5000

Read = TypeVar("Read")


def write_table(path: Place, table: Table) -> None:
    """Write a table in one step. Replace an existing file."""
    with published(path) as aside, aside.open("wb") as file:
        # Twice as fast to write and to read as plain values with zstd, and at most 40 % larger.
        pq.write_table(
            pa.table({name: _as_arrow(column) for name, column in table.items()}),
            file,
            compression="lz4",
            use_dictionary=False,
            write_statistics=[next(iter(table))],  # only those of the first column are read
            column_encoding={name: _encoding(column.dtype) for name, column in table.items()},
            write_page_checksum=True,
        )


def _encoding(dtype: np.dtype[Any]) -> str:
    return "DELTA_BINARY_PACKED" if dtype.kind in "iu" and dtype.itemsize >= 4 else "PLAIN"


def read_table(path: Place, columns: Mapping[str, type[np.generic]]) -> Table:
    """Return the table at `path`. Raises DamagedError if the file is missing, damaged or lacks a column."""
    with _undamaged(path):
        stored = stored_table(path, list(columns))
    return {name: _as_numpy(stored[name]).astype(dtype, copy=False) for name, dtype in columns.items()}


def count_rows(path: Place) -> int:
    """Return the number of rows of the table at `path`, from the footer of its file. Errors as in `read_table`."""
    with _undamaged(path):
        return _opened(path, lambda file: int(file.metadata.num_rows))


@contextmanager
def _undamaged(path: Place) -> Iterator[None]:
    """Raise DamagedError if the file is missing or damaged."""
    try:
        yield
    except FileNotFoundError as error:
        raise DamagedError(
            f"{path} is missing: it was removed, or its stage did not finish",
            hint="recompute its stage: neuroseg segment WORKSPACE --restart STAGE",
        ) from error
    except (pa.ArrowException, OSError) as error:
        raise DamagedError(
            f"{path} is damaged ({error})", hint="recompute its stage: neuroseg segment WORKSPACE --restart STAGE"
        ) from error


def stored_table(path: Place, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the table in a file, after checking its checksums. Raises FileNotFoundError, OSError or ArrowException."""
    return _opened(path, lambda file: _as_described(file, file.read(columns=columns, use_threads=False)))


def _opened(path: Place, read: Callable[[pq.ParquetFile], Read]) -> Read:
    """Open a file and return the result of `read`. Retry if that fails.

    A stage may read thousands of files: a short failure of the disk or network must not make all of it fail.
    """
    for pause_s in (*_PAUSES_S, None):
        try:
            # Open the file here: pyarrow would parse a path with a colon as a URI. Disable pre_buffer: a thread of
            # pyarrow that releases a Python buffer while the process exits would abort the process.
            with (
                path.open("rb") as opened,
                pq.ParquetFile(opened, page_checksum_verification=True, pre_buffer=False) as file,
            ):
                return read(file)
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError):
            if pause_s is None:
                raise
            time.sleep(pause_s)
    raise AssertionError("the last try returns or raises")


def _key_range(file: pq.ParquetFile) -> tuple[int, int] | None:
    """Return the smallest and largest value of the first column from the file's footer, which has no checksum."""
    found = [file.metadata.row_group(n).column(0).statistics for n in range(file.num_row_groups)]
    if not found or not all(each is not None and each.has_min_max for each in found):
        return None
    return min(each.min for each in found), max(each.max for each in found)


def _as_described(file: pq.ParquetFile, table: pa.Table) -> pa.Table:
    """Return the table. Raises ArrowInvalid if its first column contradicts the file's footer."""
    known, first = _key_range(file), file.schema_arrow.names[0]
    if known is not None and table.num_rows and first in table.column_names:
        values = _as_numpy(table[first])
        if (values.min(), values.max()) != known:
            raise pa.ArrowInvalid(
                f"column {first} ranges from {values.min()} to {values.max()}, but the file's footer states "
                f"{known[0]} to {known[1]}"
            )
    return table


# pyarrow's own conversions import pandas if it is installed, which takes longer than reading a small table.


def _as_arrow(column: NDArray[Any]) -> pa.Array:
    values = np.ascontiguousarray(column)
    if values.ndim != 1 or values.dtype.kind not in "iuf":
        raise TypeError(f"a column must be a 1D array of numbers, found {values.ndim}D {values.dtype}")
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


def write_lookup(path: Place, lookup: Table) -> None:
    """Write a lookup table (fragment, segment) in one step, as an array `(2, n)` uint64."""
    columns = [np.ascontiguousarray(lookup[name], dtype) for name, dtype in LOOKUP.items()]
    shape = (len(columns), len(columns[0]))
    described = {"descr": columns[0].dtype.str, "fortran_order": False, "shape": shape}
    with published(path) as aside, aside.open("wb") as file:
        # np.save would need a copy of all columns, and would hide the error number of a full disk.
        np.lib.format.write_array_header_1_0(file, described)
        for column in columns:
            file.write(column.data)


def map_lookup(path: Place) -> Table:
    """Return a lookup table whose columns are memory-mapped: a block reads only the pages of its fragments.

    Raises DamagedError if the file is missing or damaged.
    """
    try:
        columns = _mapped(path)
    except (OSError, ValueError, EOFError) as error:
        raise DamagedError(
            f"{path} is missing or damaged ({error})", hint="recompute it: neuroseg segment WORKSPACE --restart relabel"
        ) from error
    return dict(zip(LOOKUP, columns, strict=True))


def _mapped(path: Place) -> NDArray[np.uint64]:
    """Return the array in a file, memory-mapped. A file on a server is first copied to a temporary file."""
    if not isinstance(path, RemotePath):
        return _load(str(path))
    with path.open("rb") as source, tempfile.NamedTemporaryFile() as copy:
        shutil.copyfileobj(source, copy, _COPIED_BYTES)
        copy.flush()
        return _load(copy.name)


def _load(path: str) -> NDArray[np.uint64]:
    columns: NDArray[np.uint64] = np.load(path, mmap_mode="r")
    return columns


def part_path(folder: Place, block: int) -> Place:
    """Return the file of one block's part. A folder has at most 5000 files, and as many folders.

    The first 5000 parts lie in the table's folder, 5000 more in each of 4999 folders in it, and so on.
    """
    groups, group = [], block // FILES_A_FOLDER
    while group:
        groups.append(group)
        group //= FILES_A_FOLDER
    for group in reversed(groups):
        folder = folder / f"{group:05d}"
    return folder / f"{block:08d}{_PART}"


def parts_in(folder: Place) -> dict[int, Place]:
    """Return the file of each part of a table by its block, ascending. Empty without the folder."""
    files: Iterable[Place] = folder.rglob(f"*{_PART}") if isinstance(folder, Path) else (f for f, _ in folder.files())
    found = {int(file.stem): file for file in files if file.stem.isdigit() and file.suffix == _PART}
    return dict(sorted(found.items()))


def remove_parts(folder: Place, is_removed: Callable[[int], bool]) -> None:
    """Remove the parts of some blocks."""
    for block, file in parts_in(folder).items():
        if is_removed(block):
            remove_all(file)


def read_part(folder: Place, block: int, columns: Mapping[str, type[np.generic]]) -> Table:
    """Return one block's part of a table. Raises MissingPartError if it is missing, else as `read_table`.

    A network disk may not yet list a file that another machine has just written. So reading is retried once.
    """
    path = part_path(folder, block)
    try:
        return read_table(path, columns)
    except DamagedError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
    renew_listing(folder)
    try:
        return read_table(path, columns)
    except DamagedError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise MissingPartError(error.args[0], folder.name, block, hint=error.hint) from error
        raise


def read_parts(folder: Place, blocks: Iterable[int], columns: Mapping[str, type[np.generic]]) -> list[Table]:
    """Return the parts of `blocks`, in the given order."""
    return [read_table(part_path(folder, block), columns) for block in blocks]

"""Number and bytes of the files of each block, from one listing of an artifact: there may be millions of files."""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuroseg.blocks import Block, Blocks, Numbers, indices_of
from neuroseg.storage.remote_path import RemotePath
from neuroseg.storage.stored import Artifact, file_size, sizes_in, stored_now
from neuroseg.storage.trees import Place

_CHUNKS = "c"  # the folder of an array's shards


def file_counts(artifact: Artifact, blocks: Sequence[Block]) -> tuple[Numbers, Numbers]:
    """Return number and bytes of the existing files of each block, `(blocks,)` each."""
    if artifact.is_single:
        size = file_size(artifact.place)
        return np.full(len(blocks), size is not None, np.int64), np.full(len(blocks), size or 0, np.int64)
    if artifact.shape is None:
        return _of(indices_of(blocks), *_numbered(_files(artifact.place)))
    if isinstance(blocks, Blocks) and _has_one_shard_a_block(artifact, blocks):
        grid = blocks.lattice.counts
        return _of(blocks.indices, *_numbered(_files(artifact.place / _CHUNKS), grid))
    size_of = sizes_in(artifact)
    counts = np.array([stored_now(artifact, size_of, block) for block in blocks], np.int64).reshape(-1, 2)
    return counts[:, 0], counts[:, 1]


def _has_one_shard_a_block(artifact: Artifact, blocks: Blocks) -> bool:
    """Return whether the shards are the cells of the blocks' lattice, so that a shard has the number of its block."""
    assert artifact.shape is not None
    *lead, depth, rows, columns = artifact.shape
    return (
        artifact.separator == "/"
        and artifact.factors == (1, 1, 1)
        and artifact.shard == (*lead, *blocks.lattice.block_shape)
        and (depth, rows, columns) == blocks.lattice.volume_shape
    )


def _of(blocks: Numbers, numbers: Numbers, sizes: Numbers) -> tuple[Numbers, Numbers]:
    """Return one file or none, and its size, for each block, from the numbers and sizes of all files."""
    order = np.argsort(numbers)
    numbers, sizes = numbers[order], sizes[order]
    if not len(numbers):
        return np.zeros(len(blocks), np.int64), np.zeros(len(blocks), np.int64)
    at = np.minimum(np.searchsorted(numbers, blocks), len(numbers) - 1)
    is_there: NDArray[np.bool_] = numbers[at] == blocks
    return is_there.astype(np.int64), np.where(is_there, sizes[at], 0)


def _numbered(files: Iterator[tuple[str, int]], grid: Sequence[int] | None = None) -> tuple[Numbers, Numbers]:
    """Return number and size of each file. Without `grid`, its number is its name; else its path is a cell of the grid.

    Other files, such as half-written ones, are left out.
    """
    numbers, sizes = array("q"), array("q")
    for path, size in files:
        *cell, name = path.split("/")
        last = name if grid else name.partition(".")[0]
        if last.isdecimal() and all(each.isdecimal() for each in cell if grid):
            number = int(last)
            if grid:
                steps = (math.prod(grid[axis + 1 :]) for axis in range(len(grid) - 1))
                number += sum(int(each) * step for each, step in zip(cell[-2:], steps, strict=True))
            numbers.append(number)
            sizes.append(size)
    return np.array(numbers, np.int64), np.array(sizes, np.int64)


def _files(folder: Place) -> Iterator[tuple[str, int]]:
    """Yield path and size of each file below a folder, which may be missing. Paths are relative to the folder."""
    if isinstance(folder, RemotePath):
        for file, size in folder.files():
            yield str(file).removeprefix(f"{folder}/"), size
        return
    yield from _files_on_disk(folder, "")


def _files_on_disk(folder: Path | str, prefix: str) -> Iterator[tuple[str, int]]:
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in found:
        if entry.is_dir():
            yield from _files_on_disk(entry.path, f"{prefix}{entry.name}/")
        else:
            try:
                yield prefix + entry.name, entry.stat().st_size
            except FileNotFoundError:
                continue  # removed meanwhile

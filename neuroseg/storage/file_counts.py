"""Number and bytes of the files of each block, from one listing of an artifact: there may be millions of files."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from neuroseg.blocks import Block, Blocks, Numbers, indices_of
from neuroseg.storage.remote_path import RemotePath
from neuroseg.storage.stored import Artifact, file_size, sizes_in, stored_now
from neuroseg.storage.trees import Place

_CHUNKS = "c"  # the folder of an array's shards

Faces = tuple[Numbers, Numbers]


def file_counts(artifact: Artifact, blocks: Sequence[Block]) -> tuple[Numbers, Numbers]:
    """Return number and bytes of the existing files of each block, `(blocks,)` each."""
    if artifact.is_single:
        size = file_size(artifact.place)
        return np.full(len(blocks), size is not None, np.int64), np.full(len(blocks), size or 0, np.int64)
    if artifact.shape is None:
        return _of(indices_of(blocks), *_numbered(_files(artifact.place)))
    if isinstance(blocks, Blocks) and len(blocks) and artifact.separator == "/":
        faces = [_cells_of_blocks(artifact, blocks, axis) for axis in range(3)]
        if all((begin[1:] >= end[:-1]).all() for begin, end in faces):
            *cells, sizes = _shards(_files(artifact.place / _CHUNKS))
            return _of(blocks.indices, *_blocks_of_cells(blocks, faces, cells, sizes))
    size_of = sizes_in(artifact)
    counts = np.array([stored_now(artifact, size_of, block) for block in blocks], np.int64).reshape(-1, 2)
    return counts[:, 0], counts[:, 1]


def _cells_of_blocks(artifact: Artifact, blocks: Blocks, axis: int) -> Faces:
    """Return begin and end of the blocks at each place along an axis of their lattice, in shards."""
    assert artifact.shard is not None
    lattice, width = blocks.lattice, artifact.factors[axis] * artifact.shard[axis - 3]
    faces = lattice.faces(axis, lattice.cells[axis])
    return faces[:, 0] // width, -(-faces[:, 1] // width)


def _blocks_of_cells(
    blocks: Blocks, faces: Sequence[Faces], cells: Sequence[Numbers], sizes: Numbers
) -> tuple[Numbers, Numbers]:
    """Return the block of each shard, given by its cell along each axis, and its size. Omit shards of no block."""
    numbers, is_inside = np.zeros(len(sizes), np.int64), np.ones(len(sizes), bool)
    for (begin, end), cell, places, count in zip(
        faces, cells, blocks.lattice.cells, blocks.lattice.counts, strict=True
    ):
        at = np.searchsorted(begin, cell, side="right") - 1
        is_inside &= (at >= 0) & (cell < end[at])
        numbers = numbers * count + at + places.start
    return numbers[is_inside], sizes[is_inside]


def _of(blocks: Numbers, numbers: Numbers, sizes: Numbers) -> tuple[Numbers, Numbers]:
    """Return number and bytes of the files of each block, from the blocks of all files, and their sizes."""
    files, total = np.zeros(len(blocks), np.int64), np.zeros(len(blocks), np.int64)
    if len(blocks) and len(numbers):
        order = np.argsort(blocks, kind="stable")
        places = order[np.minimum(np.searchsorted(blocks, numbers, sorter=order), len(blocks) - 1)]
        are_theirs = blocks[places] == numbers
        np.add.at(files, places[are_theirs], 1)
        np.add.at(total, places[are_theirs], sizes[are_theirs])
    return files, total


def _numbered(files: Iterator[tuple[str, int]]) -> tuple[Numbers, Numbers]:
    """Return number and size of each part of a table. Its number is its name. Omit half-written files."""
    numbers, sizes = array("q"), array("q")
    for path, size in files:
        name = path.rpartition("/")[2].partition(".")[0]
        if name.isdecimal():
            numbers.append(int(name))
            sizes.append(size)
    return np.frombuffer(numbers, np.int64), np.frombuffer(sizes, np.int64)


def _shards(files: Iterator[tuple[str, int]]) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """Return the cell (z, y, x) of each shard, and its size. Omit other files, such as half-written ones."""
    columns = array("q"), array("q"), array("q"), array("q")
    for path, size in files:
        cell = path.split("/")
        if all(each.isdecimal() for each in cell):
            for column, value in zip(columns, (*map(int, cell[-3:]), size), strict=True):
                column.append(value)
    z, y, x, sizes = (np.frombuffer(column, np.int64) for column in columns)
    return z, y, x, sizes


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

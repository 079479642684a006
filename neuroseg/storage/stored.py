"""The files of an artifact that belong to a block, and their sizes.

block + artifact -> its files -> flushed to disk and counted when the block is done, counted again before they are read

zarr does not write a shard of zeros. Only the recorded count distinguishes such a shard from a missing one.
"""

from __future__ import annotations

import itertools
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from neuroseg.blocks import Block, Numbers, indices_of
from neuroseg.geometry import Box, Triple, triple
from neuroseg.storage.parts import part_path, remove_parts
from neuroseg.storage.remote_path import RemotePath
from neuroseg.storage.trees import Place, remove_all, renew_listing

DOWNSAMPLING = "downsampling"
"""The attribute of an array that has fewer voxels than the volume: the size of its voxels in voxels of the volume."""

_METADATA = "zarr.json"
_SINGLE_FILES = (".parquet", ".npy")
_READ_BYTES = 1 << 20


class Stored(NamedTuple):
    """The number of files of one artifact that belong to a block, and their size in bytes."""

    files: int
    size: int


@dataclass(frozen=True)
class Artifact:
    """The files of an artifact. `shape` and `shard`: of an array, in voxels, with leading axes; None for a table.

    `factors`: the size of the array's voxels in voxels of the volume.
    """

    place: Place
    shape: tuple[int, ...] | None = None
    shard: tuple[int, ...] | None = None
    separator: str = "/"
    factors: Triple = (1, 1, 1)

    def part_of(self, block: Block) -> Box:
        """Return the voxels of the array that belong to a block."""
        z, y, x = (
            (begin // factor, -(-end // factor))
            for (begin, end), factor in zip(block.write_box, self.factors, strict=True)
        )
        return (z, y, x)

    @property
    def is_single(self) -> bool:
        """Whether one file belongs to all blocks."""
        return self.place.suffix in _SINGLE_FILES

    def files(self, block: Block) -> Iterator[Place]:
        """Yield the places of a block's files. A file may be missing."""
        if self.shape is None or self.shard is None:
            yield self.place if self.is_single else part_path(self.place, block.index)
            return
        lead = self.shape[:-3]
        box = (*((0, size) for size in lead), *self.part_of(block))
        cells = (range(b // width, -(-e // width)) for (b, e), width in zip(box, self.shard, strict=True))
        for cell in itertools.product(*cells):
            yield self.place / self.separator.join(("c", *map(str, cell)))


def artifact_at(place: Place) -> Artifact | None:
    """Return the artifact at a place, or None. Raises ValueError for an array with missing or wrong metadata."""
    if place.suffix in _SINGLE_FILES:
        return Artifact(place) if place.is_file() else None
    description = place / _METADATA
    if isinstance(description, Path) and isinstance(place, Path):
        with suppress(FileNotFoundError, NotADirectoryError):
            known = description.stat()
            return _array_on_disk(place, known.st_mtime_ns, known.st_size, known.st_ino)
    elif description.is_file():
        return _array_at(place, description.read_bytes())
    if not place.is_dir():
        return None
    if place.suffix == ".zarr" or (place / "c").is_dir():
        raise ValueError(f"{place} has no {_METADATA}")
    return Artifact(place)


@lru_cache(maxsize=64)
def _array_on_disk(place: Path, *_: int) -> Artifact:
    """Return an array on a disk. Every block needs it, so it is cached until the metadata file changes."""
    return _array_at(place, (place / _METADATA).read_bytes())


def _array_at(place: Place, content: bytes) -> Artifact:
    described = json.loads(content)
    try:
        shape = tuple(int(size) for size in described["shape"])
        shard = tuple(int(size) for size in described["chunk_grid"]["configuration"]["chunk_shape"])
        separator = described["chunk_key_encoding"].get("configuration", {}).get("separator", "/")
        factors = triple(described.get("attributes", {}).get(DOWNSAMPLING, (1, 1, 1)))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{place / _METADATA} does not describe an array: {error!r}") from error
    return Artifact(place, shape, shard, separator, factors)


def flushed(root: Place, names: Iterable[str], block: Block) -> tuple[list[Stored], dict[str, list[int]]]:
    """Flush the files of a block that was just written. Return their counts by artifact, and bytes and CRC-32 by file.

    After that, a crash of the machine cannot remove them. Objects on a server are only counted.
    """
    counts: list[Stored] = []
    record: dict[str, list[int]] = {}
    for name in names:
        artifact = artifact_at(root / name)
        files = [] if artifact is None else [file for file in artifact.files(block) if file.is_file()]
        sizes = []
        for file in files:
            if isinstance(file, RemotePath):
                sizes.append(file.size or 0)
                continue
            _flush(file)
            size, checksum = file_checksum(file)
            record[str(file).removeprefix(f"{root}/")] = [size, checksum]
            sizes.append(size)
        for folder in {file.parent for file in files if isinstance(file, Path)}:
            _flush(folder)  # the names of its files
        counts.append(Stored(len(files), sum(sizes)))
    return counts, record


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_checksum(file: Path) -> tuple[int, int]:
    """Return the size in bytes and the CRC-32 of a file."""
    size = checksum = 0
    with file.open("rb") as opened:
        while piece := opened.read(_READ_BYTES):
            size, checksum = size + len(piece), zlib.crc32(piece, checksum)
    return size, checksum


def stored_now(artifact: Artifact, size_of: Callable[[Place], int | None], block: Block) -> Stored:
    """Return the count of a block's files that exist now."""
    sizes = [size for file in artifact.files(block) if (size := size_of(file)) is not None]
    return Stored(len(sizes), sum(sizes))


def refresh(root: Place, names: Iterable[str], blocks: Iterable[Block]) -> None:
    """Make a network disk refresh its listings of the folders of blocks' files."""
    if not isinstance(root, Path):
        return
    for folder in {
        Path(str(file)).parent for name in names for block in blocks for file in files_of(root / name, block)
    }:
        renew_listing(folder)


def files_of(place: Place, block: Block) -> Iterator[Place]:
    """Yield the places of a block's files. Yield nothing if there is no artifact at `place`."""
    try:
        artifact = artifact_at(place)
    except ValueError:
        return
    if artifact is not None:
        yield from artifact.files(block)


def file_size(file: Place) -> int | None:
    """Return the size of a file in bytes. None if the file is missing."""
    if isinstance(file, RemotePath):
        return file.size
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return None


def remove_tables_of(places: Iterable[Place], blocks: Sequence[Block]) -> None:
    """Remove blocks' parts of tables. Keep arrays, and files of the whole volume."""
    indices = np.sort(indices_of(blocks))
    for place in places:
        if place.suffix or not place.is_dir() or (place / _METADATA).is_file():
            continue
        remove_parts(place, lambda index: _contains(indices, index))


def _contains(numbers: Numbers, number: int) -> bool:
    """Return whether ascending numbers contain one."""
    place = int(np.searchsorted(numbers, number))
    return place < len(numbers) and bool(numbers[place] == number)


def remove_files(artifact: Artifact, block: Block) -> None:
    """Remove the files of a block. A missing file is not an error."""
    for file in artifact.files(block):
        remove_all(file)


def sizes_in(artifact: Artifact) -> Callable[[Place], int | None]:
    """Return a function that returns the size of an artifact's file in bytes, or None if the file is missing.

    Each folder is listed only once (on a server, the whole artifact): there may be tens of thousands of files.
    """
    if isinstance(artifact.place, RemotePath):
        sizes = {str(file): size for file, size in artifact.place.files()}
        sizes |= {str(artifact.place): artifact.place.size} if artifact.place.size is not None else {}
        return lambda file: sizes.get(str(file))

    @cache
    def listed(folder: Path) -> dict[str, int]:
        try:
            with os.scandir(folder) as entries:
                return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
        except FileNotFoundError:
            return {}

    return lambda file: listed(Path(str(file)).parent).get(file.name)

"""The files of an artifact that belong to a block: which there are, and how large.

block + artifact -> its files -> flushed to disk and counted when the block is done, counted again before they are read

zarr never writes a shard of zeros. Only a record of what was written distinguishes it from a shard that is gone.
"""

from __future__ import annotations

import itertools
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

from neuroseg.blocks import Block
from neuroseg.storage.parts import part_path
from neuroseg.storage.remote_path import RemotePath
from neuroseg.storage.trees import Place, remove_all, renew_listing

_DESCRIPTION = "zarr.json"
_SINGLE_FILES = (".parquet", ".npy")
_READ_BYTES = 1 << 20


class Stored(NamedTuple):
    """How many files of one artifact belong to a block, and their bytes."""

    files: int
    size: int


@dataclass(frozen=True)
class Artifact:
    """An artifact as files. `shape` and `shard` are an array's, in voxels with all leading axes; None for tables."""

    place: Place
    shape: tuple[int, ...] | None = None
    shard: tuple[int, ...] | None = None
    separator: str = "/"

    def files(self, block: Block) -> Iterator[Place]:
        """Yield where the files of a block lie, or would lie."""
        if self.shape is None or self.shard is None:
            yield self.place if self.place.suffix in _SINGLE_FILES else part_path(self.place, block.index)
            return
        lead = self.shape[:-3]
        box = (*((0, size) for size in lead), *block.write_box)
        cells = (range(b // width, -(-e // width)) for (b, e), width in zip(box, self.shard, strict=True))
        for cell in itertools.product(*cells):
            yield self.place / self.separator.join(("c", *map(str, cell)))


def artifact_at(place: Place) -> Artifact | None:
    """Return the artifact at a place, None where there is none; raises ValueError for an array it cannot describe."""
    if place.suffix in _SINGLE_FILES:
        return Artifact(place) if place.is_file() else None
    description = place / _DESCRIPTION
    if isinstance(description, Path) and isinstance(place, Path):
        with suppress(FileNotFoundError, NotADirectoryError):
            known = description.stat()
            return _array_on_disk(place, known.st_mtime_ns, known.st_size, known.st_ino)
    elif description.is_file():
        return _array_at(place, description.read_bytes())
    if not place.is_dir():
        return None
    if place.suffix == ".zarr" or (place / "c").is_dir():
        raise ValueError(f"{place} has no {_DESCRIPTION}")
    return Artifact(place)


@lru_cache(maxsize=64)
def _array_on_disk(place: Path, *_: int) -> Artifact:
    """Return an array; its description is read again when the file is another one: every block asks for it."""
    return _array_at(place, (place / _DESCRIPTION).read_bytes())


def _array_at(place: Place, content: bytes) -> Artifact:
    described = json.loads(content)
    try:
        shape = tuple(int(size) for size in described["shape"])
        shard = tuple(int(size) for size in described["chunk_grid"]["configuration"]["chunk_shape"])
        separator = described["chunk_key_encoding"].get("configuration", {}).get("separator", "/")
    except (KeyError, TypeError) as error:
        raise ValueError(f"{place / _DESCRIPTION} does not describe an array: {error!r}") from error
    return Artifact(place, shape, shard, separator)


def settled(root: Place, names: Iterable[str], block: Block) -> tuple[list[Stored], dict[str, list[int]]]:
    """Return what a block that was just written stored of each artifact below `root`, and bytes and CRC-32 by file.

    All of it is on disk afterwards, whatever happens next. Objects on a server are safe; they are counted, not hashed.
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
    """Return the bytes and the CRC-32 of a file."""
    size = checksum = 0
    with file.open("rb") as opened:
        while piece := opened.read(_READ_BYTES):
            size, checksum = size + len(piece), zlib.crc32(piece, checksum)
    return size, checksum


def stored_now(artifact: Artifact, size_of: Callable[[Place], int | None], block: Block) -> Stored:
    """Return what there is of a block's files."""
    sizes = [size for file in artifact.files(block) if (size := size_of(file)) is not None]
    return Stored(len(sizes), sum(sizes))


def refresh(root: Place, names: Iterable[str], blocks: Iterable[Block]) -> None:
    """Have a network disk list the folders of blocks' files anew."""
    if not isinstance(root, Path):
        return
    for folder in {
        Path(str(file)).parent for name in names for block in blocks for file in files_of(root / name, block)
    }:
        renew_listing(folder)


def files_of(place: Place, block: Block) -> Iterator[Place]:
    """Yield where the files of a block lie, or would lie, of the artifact at a place; nothing where there is none."""
    try:
        artifact = artifact_at(place)
    except ValueError:
        return
    if artifact is not None:
        yield from artifact.files(block)


def file_size(file: Place) -> int | None:
    """Return the bytes of a file, None where there is none."""
    if isinstance(file, RemotePath):
        return file.size
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return None


def remove_parts(places: Iterable[Place], blocks: Iterable[Block]) -> None:
    """Remove blocks' parts of tables; arrays, and files of the whole volume, are left alone."""
    indices = {block.index for block in blocks}
    for place in places:
        if place.suffix or not place.is_dir() or (place / _DESCRIPTION).is_file():
            continue
        for file in [file for file, _ in place.files()] if isinstance(place, RemotePath) else list(place.iterdir()):
            if file.stem.isdigit() and int(file.stem) in indices:
                remove_all(file)


def remove_files(artifact: Artifact, block: Block) -> None:
    """Remove the files of a block; those that are gone already are no error."""
    for file in artifact.files(block):
        remove_all(file)


def sizes_in(artifact: Artifact) -> Callable[[Place], int | None]:
    """Return the function that returns the bytes of an artifact's file, None where there is none.

    Each folder is listed once, on a server the whole artifact: there are tens of thousands of files.
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

"""The marks of a stage's blocks: a file to which only the head appends, one line per event.

    \n CRC-32  words                                TAB JSON                     TAB files with their checksums
    40b3d5aa created 61c0de5b7f3a9e12
    5d1c09f2 begun 7
    9f2c11aa done 7 81aa03c4d5e6f7a8 1.830 0.0      {"seconds": 0.4, "time": ...} {"edges/00000007.parquet": [830, 71]}
    02ab77e1 failed 8                               "stage edges, block 8 ...: out of memory"

A crash can leave a part of a line. Its checksum is wrong, so it is ignored, and the next line begins on a new line.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroseg.errors import DiskFullError, NeurosegError
from neuroseg.storage.done_table import DoneTable
from neuroseg.storage.marks_index import read_index, write_index
from neuroseg.storage.space import describe_full, is_disk_full, path_in_errors

# The first line has a random word. It shows whether another file has taken the place of the one that was read.
_BEGINNING_BYTES = 64
_CHECKSUM_LENGTH = 8
# Errors of a network disk that may pass. A line that is written twice does no harm.
_TRANSIENT = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT)
_PAUSES_S = (0.1, 1.0, 5.0)
# The state is saved after so many events, unless they took little space: then reading them takes half a second.
_SAVED_AFTER_EVENTS, _SAVED_AFTER_BYTES = 2**17, 2**20


@dataclass
class Marks:
    """The state of a stage's blocks, by their index. `failed`: where the line with the cause begins.

    `running` contains the blocks that were begun and are neither done nor failed, `lost` those of workers that died.
    """

    done: DoneTable = field(default_factory=DoneTable)
    failed: dict[int, int] = field(default_factory=dict)
    running: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)
    is_verified: bool = False

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the state as arrays. `from_arrays` reverses this."""
        sets = {"failed": self.failed, "causes": self.failed.values(), "running": self.running, "lost": self.lost}
        known = {name: np.array(list(each), np.int64) for name, each in sets.items()}
        return {**self.done.arrays(), **known, "is_verified": np.array(self.is_verified)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Marks:
        """Return the state with the content `arrays`. Raises KeyError or ValueError if it is incomplete."""
        failed, causes, running, lost = (arrays[name].tolist() for name in ("failed", "causes", "running", "lost"))
        return cls(
            DoneTable.from_arrays(arrays),
            dict(zip(failed, causes, strict=True)),
            set(running),
            set(lost),
            bool(arrays["is_verified"]),
        )

    def apply(self, words: Sequence[str], offset: int, details: str = "") -> None:
        """Change the state by an event whose line begins at `offset`. Ignore events of other versions.

        `details`: the JSON of the line. That of a done block describes how it was computed.
        """
        event, *rest = words
        match event:
            case "claimed":
                self.is_verified = False
            case "verified":
                self.is_verified = True
            case "begun":
                self.running.add(index := int(rest[0]))
                if index in self.lost:
                    self.failed.pop(index, None)  # it is tried again
            case "postponed":
                self.running.discard(int(rest[0]))
            case "done":
                index = int(rest[0])
                record = json.loads(details or "{}")
                self.done.add(index, rest[1], rest[2:], offset, record if isinstance(record, dict) else {})
                self.failed.pop(index, None)
                self.running.discard(index)
            case "failed" | "lost":
                self.running.discard(index := int(rest[0]))
                self.failed[index] = offset
                if event == "lost":
                    self.lost.add(index)
            case "released":
                self.done.release(map(int, rest))
            case "all_released":
                self.done.release_all()
            case "cleared":
                self.done.remove(map(int, rest))
                for index in map(int, rest):
                    self.failed.pop(index, None)
            case "retried":
                for index in map(int, rest):
                    self.failed.pop(index, None)
            case "ended":
                self.running.clear()
                self.lost.clear()
            case "forgotten":
                self.done, self.failed = DoneTable(), {}
                self.is_verified = False


class MarksFile:
    """The file of a stage's marks. Reading it reads only what was appended since the last time.

    The head saves the state now and then (marks_index.py). So also another process reads only the lines after that.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._index = path, path.with_name(f"{path.name}.index")
        self._lock = threading.Lock()
        self._unsaved = self._saved = 0
        self._reset()

    def state(self) -> Marks:
        """Return the state after all events. Do not change it. Later calls may change it."""
        with self._lock:
            try:
                with self.path.open("rb") as file:
                    self._read_on(file)
            except FileNotFoundError:
                self._reset()
            return self._marks

    def append(self, *words: object, details: object = None, files: object = None, flush: bool = False) -> None:
        """Append an event. Tries again for some seconds if the disk does not answer.

        Raises DiskFullError if the disk is full, and OSError if the file cannot be written.

        Without `flush`, a crash of the machine may remove it: then a block is computed again. An event that makes
        blocks pending must be flushed, or a crash would make their old marks valid again.
        """
        parts = [json.dumps(each) for each in (details, files) if each is not None]
        line = _line("\t".join([" ".join(map(str, words)), *parts]))
        for pause_s in (*_PAUSES_S, None):
            try:
                with path_in_errors(self.path):
                    self._append(line, flush=flush)
                break
            except OSError as error:
                if is_disk_full(error):
                    raise DiskFullError(describe_full(error, self.path.parent)) from error
                if pause_s is None or error.errno not in _TRANSIENT:
                    raise
                time.sleep(pause_s)
        self._unsaved += 1
        if self._unsaved >= _SAVED_AFTER_EVENTS:
            self.save()

    def save(self) -> None:
        """Save the state if much was appended since the last time. Only the head may call this.

        If the disk does not allow it, readers take longer.
        """
        self._unsaved = 0
        self.state()
        if self._offset - self._saved < _SAVED_AFTER_BYTES:
            return
        self._saved = self._offset
        with self._lock, contextlib.suppress(OSError, NeurosegError), self.path.open("rb") as file:
            os.fsync(file.fileno())  # otherwise a crash of the machine might leave the index of lines that are gone
            write_index(self._index, self._marks.arrays(), file, self._offset)

    def remove(self) -> None:
        """Remove the file, and with it all marks."""
        for path in (self._index, self.path):
            path.unlink(missing_ok=True)

    def _append(self, line: bytes, *, flush: bool) -> None:
        """Append a line, to a new file if there is none."""
        try:
            self._write(line, os.O_APPEND, flush=flush)
        except FileNotFoundError:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            first = _line(f"created {secrets.token_hex(8)}")
            self._write(first + line, os.O_APPEND | os.O_CREAT, flush=flush)

    def lines(self, offsets: Mapping[int, int]) -> Iterator[tuple[int, list[str]]]:
        """Yield the blocks of some lines, given by the lines' offsets, and their parts: words, JSON, files.

        Lines that are gone because the stage is restarted meanwhile are left out.
        """
        with contextlib.suppress(FileNotFoundError), self.path.open("rb") as file:
            for index, offset in offsets.items():
                file.seek(offset)
                parts = _content(file.readline()).split("\t")
                if parts[0].split(" ")[1:2] == [str(index)]:
                    yield index, parts

    def _write(self, line: bytes, flags: int, *, flush: bool) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | flags, 0o666)
        try:
            while line:
                line = line[os.write(descriptor, line) :]
            if flush:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _reset(self) -> None:
        self._marks, self._offset, self._beginning = Marks(), 0, b""
        self._saved = 0

    def _read_on(self, file: Any) -> None:
        """Apply the events that were appended. Read the whole file if another one has taken its place."""
        beginning = file.read(_BEGINNING_BYTES)
        if not beginning.startswith(self._beginning) or os.fstat(file.fileno()).st_size < self._offset:
            self._reset()
        self._beginning = beginning
        if self._offset == 0:
            self._read_index(file)
        file.seek(self._offset)
        for line in file:
            content = _content(line)
            if not content and not line.endswith(b"\n"):
                return  # it is being written, or a crash left a part of it
            if content:
                words, _, more = content.partition("\t")
                with contextlib.suppress(ValueError, IndexError):  # a line of another version
                    self._marks.apply(words.split(" "), self._offset, more.partition("\t")[0])
            self._offset += len(line)

    def _read_index(self, file: Any) -> None:
        """Begin with the saved state, if it belongs to this file."""
        if (found := read_index(self._index, file)) is not None:
            with contextlib.suppress(KeyError, ValueError):  # of another version
                self._marks, self._offset = Marks.from_arrays(found[0]), found[1]
                self._saved = self._offset


def _line(content: str) -> bytes:
    """Return a line with its checksum, after the end of the line before."""
    return b"\n%08x %b" % (zlib.crc32(content.encode()), content.encode())


def _content(line: bytes) -> str:
    """Return the content of a line without its checksum. Empty if the checksum is wrong."""
    content = line[_CHECKSUM_LENGTH + 1 :].rstrip(b"\n")
    is_whole = b"%08x" % zlib.crc32(content) == line[:_CHECKSUM_LENGTH]
    return content.decode() if is_whole else ""


@lru_cache(maxsize=64)
def marks_file(path: Path) -> MarksFile:
    """Return the file of marks at a path. The same object each time, so that it is read once."""
    return MarksFile(path)

"""Places on a server, as far as pathlib's words suit them: what a workspace does with its artifacts there.

There are no folders on such a server: one is there while something lies below it. An object appears whole or not at
all, and replaces the one before in one step.
"""

from __future__ import annotations

import errno
import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from neuroseg.storage.remote import in_short, object_store

_AT_A_TIME = 16
_TAIL_BYTES = 1 << 16
_DESCRIPTION = "zarr.json"


@dataclass(frozen=True, order=True)
class RemotePath:
    """An object or a prefix below `root`, the address of a bucket; raises OSError when the server does not answer."""

    root: str
    key: str
    store: Any = field(compare=False, repr=False)

    def __str__(self) -> str:
        """Return the address."""
        return f"{self.root}/{self.key}"

    def __truediv__(self, name: str) -> RemotePath:
        """Return a place below this one."""
        return RemotePath(self.root, f"{self.key}/{name}".lstrip("/"), self.store)

    @property
    def name(self) -> str:
        """The last word."""
        return PurePosixPath(self.key).name

    @property
    def suffix(self) -> str:
        """The last word's ending."""
        return PurePosixPath(self.key).suffix

    @property
    def stem(self) -> str:
        """The last word without its ending."""
        return PurePosixPath(self.key).stem

    def exists(self) -> bool:
        """Return whether an object is here, or something below; a zarr is here once its description is."""
        if self.suffix == ".zarr":
            return (self / _DESCRIPTION).is_file()
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        """Return whether an object is here."""
        return self.size is not None

    def is_dir(self) -> bool:
        """Return whether something is below."""
        return next(self.files(), None) is not None

    def files(self) -> Iterator[tuple[RemotePath, int]]:
        """Yield every object below and its bytes."""
        import obstore

        with _as_os_errors(self):
            for batch in obstore.list(self.store, prefix=self.key):
                for found in batch:
                    yield RemotePath(self.root, found["path"], self.store), found["size"]

    def iterdir(self) -> Iterator[RemotePath]:
        """Yield what lies directly below."""
        import obstore

        with _as_os_errors(self):
            found = obstore.list_with_delimiter(self.store, prefix=self.key)
        for key in sorted([*found["common_prefixes"], *(each["path"] for each in found["objects"])]):
            yield RemotePath(self.root, key, self.store)

    def open(self, mode: str) -> io.BufferedReader:
        """Return a file for reading, of which only what is read is fetched; raises FileNotFoundError."""
        if mode != "rb":
            raise ValueError(f"objects on servers are opened with mode 'rb', found {mode!r}")
        size = self.size
        if size is None:
            raise FileNotFoundError(errno.ENOENT, "no such object", str(self))
        return io.BufferedReader(_Ranges(self, size), _TAIL_BYTES)

    def read_range(self, begin: int, length: int) -> bytes:
        """Return bytes of the object."""
        import obstore

        with _as_os_errors(self):
            return bytes(obstore.get_range(self.store, self.key, start=begin, length=length))

    def read_bytes(self) -> bytes:
        """Return the object; raises FileNotFoundError."""
        import obstore

        with _as_os_errors(self):
            return bytes(obstore.get(self.store, self.key).bytes())

    def write(self, content: bytes | Path) -> None:
        """Put an object here, in one step; a path names the file with its content."""
        import obstore

        with _as_os_errors(self):
            obstore.put(self.store, self.key, content)

    def write_new(self, content: bytes) -> bool:
        """Put an object here unless there is one, which is asked and done in one step; returns whether it was put."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        try:
            with _as_os_errors(self):
                obstore.put(self.store, self.key, content, mode="create")
        except AlreadyExistsError:
            return False
        return True

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the object; raises FileNotFoundError, where the server tells, unless `missing_ok`."""
        import obstore

        with suppress(FileNotFoundError) if missing_ok else nullcontext(), _as_os_errors(self):
            obstore.delete(self.store, self.key)

    def remove_all(self) -> None:
        """Remove everything here and below, descriptions of zarrs first: what is left of one is none any more."""
        self.unlink(missing_ok=True)
        descriptions, others = self._parted()
        for found in descriptions:
            found.unlink(missing_ok=True)
        _at_a_time(lambda found: found.unlink(missing_ok=True), others)

    def move_all(self, target: RemotePath) -> None:
        """Move a zarr to where nothing is, descriptions last, its own at the very end: half of it passes for none.

        The copies are made by the server.
        """
        import obstore

        def copy(found: RemotePath) -> None:
            with _as_os_errors(found):
                obstore.copy(self.store, found.key, target.key + found.key.removeprefix(self.key))

        descriptions, others = self._parted()
        _at_a_time(copy, others)
        for found in reversed(descriptions):
            copy(found)
        self.remove_all()

    def _parted(self) -> tuple[list[RemotePath], list[RemotePath]]:
        """Return the descriptions of zarrs below, outer ones first, and the other objects."""
        below = [found for found, _ in self.files()]
        descriptions = [found for found in below if found.name == _DESCRIPTION]
        descriptions.sort(key=lambda found: found.key.count("/"))
        return descriptions, [found for found in below if found.name != _DESCRIPTION]

    @property
    def size(self) -> int | None:
        """The bytes of the object; None where there is none."""
        import obstore

        try:
            with _as_os_errors(self):
                return int(obstore.head(self.store, self.key)["size"])
        except FileNotFoundError:
            return None


def remote_path(address: str) -> RemotePath:
    """Return the place at an address, with a store of its bucket."""
    scheme, _, rest = address.rstrip("/").partition("://")
    bucket, _, key = rest.partition("/")
    root = f"{scheme}://{bucket}"
    return RemotePath(root, key, object_store(root))


class _Ranges(io.RawIOBase):
    """An object as a file that can be read and sought; its end, where tables describe themselves, is fetched once."""

    def __init__(self, path: RemotePath, size: int) -> None:
        super().__init__()
        self._path, self._length, self._at = path, size, 0
        self._tail_at = max(0, size - _TAIL_BYTES)
        self._tail: bytes | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), self._length - self._at)
        if count <= 0:
            return 0
        if self._at >= self._tail_at:
            if self._tail is None:
                self._tail = self._path.read_range(self._tail_at, self._length - self._tail_at)
            buffer[:count] = self._tail[self._at - self._tail_at :][:count]
        else:
            buffer[:count] = self._path.read_range(self._at, count)
        self._at += count
        return count


def _at_a_time(do: Callable[[RemotePath], None], paths: list[RemotePath]) -> None:
    """Do something with many objects, several at a time."""
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        for _ in pool.map(do, paths):
            pass


@contextmanager
def _as_os_errors(path: RemotePath) -> Iterator[None]:
    """Raise what a server refuses as a disk's error, in short; that something is there already is left as it is."""
    from obstore.exceptions import AlreadyExistsError, BaseError

    try:
        yield
    except AlreadyExistsError:
        raise
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, in_short(error), str(path)) from error
    except BaseError as error:
        raise OSError(errno.EIO, in_short(error), str(path)) from error

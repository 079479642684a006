"""Places on a server, with those methods of pathlib that a workspace needs for its artifacts.

A server has no folders: a prefix exists while there are objects below it. An object appears as a whole, and replaces an
existing one in one step.
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

from neuroseg.storage.remote import object_store, short_message

_CONCURRENT_REQUESTS = 16
_TAIL_BYTES = 1 << 16
_METADATA = "zarr.json"


@dataclass(frozen=True, order=True)
class RemotePath:
    """An object or a prefix below `root`, the address of a bucket.

    Methods raise OSError if the server does not answer or refuses the request.
    """

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
        """The last component of the address."""
        return PurePosixPath(self.key).name

    @property
    def suffix(self) -> str:
        """The file extension, with the dot."""
        return PurePosixPath(self.key).suffix

    @property
    def stem(self) -> str:
        """The last component without its file extension."""
        return PurePosixPath(self.key).stem

    def exists(self) -> bool:
        """Return whether there is an object here or below. A zarr exists if its metadata do."""
        if self.suffix == ".zarr":
            return (self / _METADATA).is_file()
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        """Return whether there is an object here."""
        return self.size is not None

    def is_dir(self) -> bool:
        """Return whether there is an object below."""
        return next(self.files(), None) is not None

    def files(self) -> Iterator[tuple[RemotePath, int]]:
        """Yield every object below, and its size in bytes."""
        import obstore

        with _as_os_errors(self):
            for batch in obstore.list(self.store, prefix=self.key):
                for found in batch:
                    yield RemotePath(self.root, found["path"], self.store), found["size"]

    def iterdir(self) -> Iterator[RemotePath]:
        """Yield the objects and prefixes directly below."""
        import obstore

        with _as_os_errors(self):
            found = obstore.list_with_delimiter(self.store, prefix=self.key)
        for key in sorted([*found["common_prefixes"], *(each["path"] for each in found["objects"])]):
            yield RemotePath(self.root, key, self.store)

    def open(self, mode: str) -> io.BufferedReader:
        """Return a file for reading, which downloads only the ranges that are read. Raises FileNotFoundError."""
        if mode != "rb":
            raise ValueError(f"mode {mode!r} is not supported on servers, expected 'rb'")
        size = self.size
        if size is None:
            raise FileNotFoundError(errno.ENOENT, "no such object", str(self))
        return io.BufferedReader(_Ranges(self, size), _TAIL_BYTES)

    def read_range(self, begin: int, length: int) -> bytes:
        """Return `length` bytes of the object from `begin` on."""
        import obstore

        with _as_os_errors(self):
            return bytes(obstore.get_range(self.store, self.key, start=begin, length=length))

    def read_bytes(self) -> bytes:
        """Return the content of the object. Raises FileNotFoundError."""
        import obstore

        with _as_os_errors(self):
            return bytes(obstore.get(self.store, self.key).bytes())

    def write(self, content: bytes | Path) -> None:
        """Write the object in one step, from bytes or from the file at a path."""
        import obstore

        with _as_os_errors(self):
            obstore.put(self.store, self.key, content)

    def write_new(self, content: bytes) -> bool:
        """Write the object if there is none, in one step. Return whether it was written."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        try:
            with _as_os_errors(self):
                obstore.put(self.store, self.key, content, mode="create")
        except AlreadyExistsError:
            return False
        return True

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the object. If it is missing, some servers raise FileNotFoundError, unless `missing_ok`."""
        import obstore

        with suppress(FileNotFoundError) if missing_ok else nullcontext(), _as_os_errors(self):
            obstore.delete(self.store, self.key)

    def remove_all(self) -> None:
        """Remove everything here and below, zarr metadata first: the rest no longer counts as a zarr."""
        self.unlink(missing_ok=True)
        metadata, others = self._split()
        for found in metadata:
            found.unlink(missing_ok=True)
        _for_each(lambda found: found.unlink(missing_ok=True), others)

    def _split(self) -> tuple[list[RemotePath], list[RemotePath]]:
        """Return the zarr metadata below, outermost first, and the other objects."""
        below = [found for found, _ in self.files()]
        metadata = [found for found in below if found.name == _METADATA]
        metadata.sort(key=lambda found: found.key.count("/"))
        return metadata, [found for found in below if found.name != _METADATA]

    @property
    def size(self) -> int | None:
        """The size of the object in bytes. None if there is no object."""
        import obstore

        try:
            with _as_os_errors(self):
                return int(obstore.head(self.store, self.key)["size"])
        except FileNotFoundError:
            return None


def remote_path(address: str) -> RemotePath:
    """Return the place at an address, with the store of its bucket."""
    scheme, _, rest = address.rstrip("/").partition("://")
    bucket, _, key = rest.partition("/")
    root = f"{scheme}://{bucket}"
    return RemotePath(root, key, object_store(root))


class _Ranges(io.RawIOBase):
    """An object as a seekable file. Its end, which contains the footer of a table, is downloaded once."""

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


def _for_each(apply: Callable[[RemotePath], None], paths: list[RemotePath]) -> None:
    """Apply a function to many objects, several at the same time."""
    with ThreadPoolExecutor(_CONCURRENT_REQUESTS) as pool:
        for _ in pool.map(apply, paths):
            pass


@contextmanager
def _as_os_errors(path: RemotePath) -> Iterator[None]:
    """Turn errors of obstore into OSError with a short message, except AlreadyExistsError."""
    from obstore.exceptions import AlreadyExistsError, BaseError

    try:
        yield
    except AlreadyExistsError:
        raise
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, short_message(error), str(path)) from error
    except BaseError as error:
        raise OSError(errno.EIO, short_message(error), str(path)) from error

"""Places on a server, as far as pathlib's words suit them: what a workspace does with its artifacts there.

There are no folders on such a server: one is there while something lies below it. An object appears whole or not at
all, and replaces the one before in one step.
"""

from __future__ import annotations

import errno
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from neuroseg.storage.remote import in_short, object_store

_AT_A_TIME = 16
_READ_AHEAD_BYTES = 1 << 16
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
        return io.BufferedReader(_Ranges(self, size), _READ_AHEAD_BYTES)

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
        """Remove the object; servers do not tell whether there was one."""
        import obstore

        with _as_os_errors(self):
            obstore.delete(self.store, self.key)

    def remove_all(self) -> None:
        """Remove everything here and below; a zarr's own description first: what is left of it is none any more."""
        import obstore

        self.unlink()
        (self / _DESCRIPTION).unlink()
        keys = [found.key for found, _ in self.files()]
        with _as_os_errors(self):
            for first in range(0, len(keys), 1000):
                obstore.delete(self.store, keys[first : first + 1000])

    def move_all(self, target: RemotePath) -> None:
        """Move a zarr to where nothing is, its own description last: half of it passes for none.

        The copies are made by the server.
        """
        import obstore

        last = (self / _DESCRIPTION).key
        keys = [found.key for found, _ in self.files() if found.key != last]

        def copy(key: str) -> None:
            with _as_os_errors(self):
                obstore.copy(self.store, key, target.key + key.removeprefix(self.key))

        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            list(pool.map(copy, keys))
        copy(last)
        self.remove_all()

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
    """An object as a file that can be read and sought."""

    def __init__(self, path: RemotePath, size: int) -> None:
        super().__init__()
        self._path, self._length, self._at = path, size, 0

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
        buffer[:count] = self._path.read_range(self._at, count)
        self._at += count
        return count


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

"""Files that appear whole or not at all: written aside, flushed, then renamed."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neuroseg.errors import InputError
from neuroseg.storage.remote_path import RemotePath
from neuroseg.storage.space import naming
from neuroseg.storage.trees import Place


@contextmanager
def published(path: Place, *, flush: bool = True) -> Iterator[Path]:
    """Yield a path to write to; on leaving without an error it replaces `path` in one step, otherwise it is removed.

    With `flush` its content is on disk before, so that a crash of the machine leaves the old file or the new one.
    """
    if isinstance(path, RemotePath):
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / path.name
            path.write(Path(folder) / path.name)
        return
    if not os.path.isdir(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    # Processes of several machines may write one file, and process numbers repeat.
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with naming(path):
            yield aside
            if flush:
                with aside.open("rb") as file:
                    os.fsync(file.fileno())
            os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def publish_text(path: Path, text: str, *, flush: bool = True) -> None:
    """Write a text file in one step; `flush` as in `published`."""
    with published(path, flush=flush) as aside:
        aside.write_text(text)


def require_publishable(path: Path, suffix: str) -> None:
    """Raise InputError unless `path` ends in `suffix` and a file can be made in its folder, which is tried."""
    if path.suffix.lower() != suffix:
        raise InputError(
            f"{path} is not written as {path.suffix or 'a file without a suffix'}; name it {path.stem}{suffix}"
        )
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file {suffix} in it")
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} of {path.name} does not exist; make it first")
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}."):
            pass
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def require_folder(path: Path) -> None:
    """Raise InputError where `path` cannot be a folder: it, or one that it lies in, is a file."""
    for place in (path, *path.parents):
        if place.is_dir():
            return
        if place.exists():
            raise InputError(f"{place} is a file, so that {path} cannot be a folder; name another with -o")

"""Write files atomically: write to a temporary file, flush it, then rename it."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neuroseg.errors import InputError
from neuroseg.storage.remote_path import RemotePath
from neuroseg.storage.space import path_in_errors
from neuroseg.storage.trees import Place


@contextmanager
def published(path: Place, *, flush: bool = True) -> Iterator[Path]:
    """Yield a temporary path to write to. It replaces `path` in one step on exit, or is removed after an error.

    With `flush`, the content is on disk before the rename: after a crash of the machine, `path` is the old or the new
    file, never a part.
    """
    if isinstance(path, RemotePath):
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / path.name
            path.write(Path(folder) / path.name)
        return
    if not os.path.isdir(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    # Processes on several machines may write the same file, and process numbers are not unique across machines.
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with path_in_errors(path):
            yield aside
            if flush:
                with aside.open("rb") as file:
                    os.fsync(file.fileno())
            os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def publish_text(path: Path, text: str, *, flush: bool = True) -> None:
    """Write a text file in one step. `flush` as in `published`."""
    with published(path, flush=flush) as aside:
        aside.write_text(text)


def require_publishable(path: Path, suffix: str) -> None:
    """Raise InputError unless `path` ends in `suffix` and a file can be created in its folder."""
    if path.is_dir():
        raise InputError(f"{path} is a folder, expected a file", hint=f"use {path / ('NAME' + suffix)}")
    if path.suffix.lower() != suffix:
        found = f"ends in {path.suffix}" if path.suffix else "has no file extension"
        raise InputError(f"{path} {found}, expected {suffix}", hint=f"use {path.with_suffix(suffix)}")
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} does not exist", hint=f"create it first: mkdir -p {path.parent}")
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}."):
            pass
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def require_folder(path: Path) -> None:
    """Raise InputError if `path` or one of its parents is a file."""
    for place in (path, *path.parents):
        if place.is_dir():
            return
        if place.exists():
            raise InputError(
                f"cannot create the folder {path}: {place} is a file", hint="choose another folder with -o"
            )

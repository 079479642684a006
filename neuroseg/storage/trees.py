"""Places of artifacts, on a disk or on a server. Remove and measure whole trees of files."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from neuroseg.storage.remote_path import RemotePath

Place = Path | RemotePath


def remove_all(place: Place) -> None:
    """Remove a file, or a folder with its content. Do nothing if it is missing."""
    if isinstance(place, RemotePath):
        place.remove_all()
    elif place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def discard(place: Place) -> None:
    """As `remove_all`, but ignore errors: a viewer may have files open, or a server may not answer."""
    with suppress(OSError):
        if isinstance(place, Path):
            shutil.rmtree(place, ignore_errors=True)
        else:
            place.remove_all()


def renew_listing(folder: Place) -> None:
    """Make a network disk refresh its listing of a folder, which may be a minute old.

    Creating and removing a file in the folder invalidates the cache of this machine.
    """
    if isinstance(folder, Path):
        existing = next(place for place in (folder, *folder.parents) if place.is_dir())
        with suppress(OSError), tempfile.NamedTemporaryFile(dir=existing, prefix=".look-"):
            pass


def bytes_at(place: Place) -> int:
    """Return the size in bytes of the file at a place, or of all files below it."""
    if isinstance(place, RemotePath):
        return (place.size or 0) + sum(size for _, size in place.files())
    files = [place] if place.is_file() else place.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())

"""Places of artifacts: on a disk or on a server, and what is done with whole trees of files there."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from neuroseg.storage.remote_path import RemotePath

Place = Path | RemotePath


def remove_all(place: Place) -> None:
    """Remove a file, or a folder with all that is in it; nothing where nothing is."""
    if isinstance(place, RemotePath):
        place.remove_all()
    elif place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def discard(place: Place) -> None:
    """Remove what nobody needs any more, as far as that is possible: a viewer may hold it, a server may be gone."""
    with suppress(OSError):
        if isinstance(place, Path):
            shutil.rmtree(place, ignore_errors=True)
        else:
            place.remove_all()


def renew_listing(folder: Place) -> None:
    """Have a network disk list a folder anew: it may list for a minute what there was before.

    A file that comes and goes in the folder ends what this machine remembers of it.
    """
    if isinstance(folder, Path):
        existing = next(place for place in (folder, *folder.parents) if place.is_dir())
        with suppress(OSError), tempfile.NamedTemporaryFile(dir=existing, prefix=".look-"):
            pass


def move_all(place: Place, target: Place) -> None:
    """Move a zarr to where nothing is; it is there whole or, as far as anybody can tell, not at all."""
    if isinstance(place, RemotePath):
        assert isinstance(target, RemotePath)
        place.move_all(target)
    else:
        os.replace(place, Path(str(target)))


def bytes_at(place: Place) -> int:
    """Return how many bytes the file at, or the files below, a place occupy."""
    if isinstance(place, RemotePath):
        return (place.size or 0) + sum(size for _, size in place.files())
    files = [place] if place.is_file() else place.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())

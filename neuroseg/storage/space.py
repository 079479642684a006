"""Room on disks: how much a run will write, whether it fits, and how a disk that is full shows itself."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from neuroseg.errors import InputError

_FULL = (errno.ENOSPC, errno.EDQUOT)
DISK_FULL = "the disk is full"
_MARGIN_BYTES = 2**20  # a run's own files: ledger, logs, metadata


def is_disk_full(error: BaseException | None) -> bool:
    """Return whether a full disk (or a used-up quota) is what an error comes from."""
    return _full_error(error) is not None


def _full_error(error: BaseException | None) -> OSError | None:
    """Return the error of a full disk that an error comes from."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return error
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def naming(path: object) -> Iterator[None]:
    """Have errors of a full disk that name no file name `path`: a write that fails does not say to what it wrote."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL and error.filename is None:
            error.filename = str(path)
        raise


def describe_full(error: BaseException, *folders: Path) -> str:
    """Return which disk is full, as an error says; where it names no file, the first of `folders`, and of the temporary
    one, whose disk is.
    """
    full = _full_error(error)
    named = full.filename if full is not None else None
    if isinstance(named, str | bytes):  # it may be the number of a descriptor
        path: Path | None = Path(os.fsdecode(named))
    else:
        path = next(filter(is_full, (*folders, *_temporary())), None)
    if full is not None and full.errno == errno.EDQUOT:
        return f"{DISK_FULL}: your quota is used up{'' if path is None else f', at {path}'}"
    return DISK_FULL if path is None else f"{DISK_FULL}: {path} has {readable(free_bytes(path))} free"


def _temporary() -> list[Path]:
    """Return the temporary folder; none where all that could be one are full or closed."""
    try:
        return [Path(tempfile.gettempdir())]
    except OSError:
        return []


def is_full(path: Path) -> bool:
    """Return whether not even small files of a run fit where `path` lies."""
    return free_bytes(path) < _MARGIN_BYTES


def free_bytes(path: Path) -> int:
    """Return how much a user may still write where `path` is or will be."""
    existing = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    state = os.statvfs(existing)
    return state.f_bavail * state.f_frsize


def require_space(path: Path, needed: Mapping[str, float]) -> None:
    """Raise InputError with what each artifact needs (bytes, estimated) when it does not fit where `path` lies."""
    total, free = sum(needed.values()), free_bytes(path)
    if not total or total + _MARGIN_BYTES <= free:
        return
    listed = ", ".join(f"{name} {readable(size)}" for name, size in needed.items())
    raise InputError(
        f"the disk of {path} has {readable(free)} free, but the run needs about {readable(total + _MARGIN_BYTES)} "
        f"({listed}); make space, choose another disk with -o, segment a part with --roi, or try with --force"
    )


def readable(size: float) -> str:
    """Return a number of bytes with a unit."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size / 1e3:.0f} kB"

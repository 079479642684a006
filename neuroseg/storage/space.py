"""Disk space: whether a run fits on the disk, and how to recognise and report a full disk."""

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
_MARGIN_BYTES = 2**20  # for ledger, logs and metadata


def is_disk_full(error: BaseException | None) -> bool:
    """Return whether a full disk or an exceeded quota caused an error."""
    return _full_error(error) is not None


def _full_error(error: BaseException | None) -> OSError | None:
    """Return the full-disk error in the chain of causes of an error, or None."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return error
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def path_in_errors(path: object) -> Iterator[None]:
    """Add `path` to full-disk errors without a file name: a failed write does not report its file."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL and error.filename is None:
            error.filename = str(path)
        raise


def describe_full(error: BaseException, *folders: Path) -> str:
    """Return a message that names the full disk, or the path with an exceeded quota.

    If the error contains no file name, name the first of `folders` and the temporary folder whose disk is full.
    """
    full = _full_error(error)
    named = full.filename if full is not None else None
    if isinstance(named, str | bytes):  # not the number of a file descriptor
        path: Path | None = Path(os.fsdecode(named))
    else:
        path = next(filter(is_full, (*folders, *_temporary())), None)
    if full is not None and full.errno == errno.EDQUOT:
        return f"{DISK_FULL}: your quota is used up{'' if path is None else f' at {path}'}"
    return DISK_FULL if path is None else f"{DISK_FULL}: {path} has {readable(free_bytes(path))} free"


def _temporary() -> list[Path]:
    """Return the temporary folder. Empty if none of the candidates can be written to."""
    try:
        return [Path(tempfile.gettempdir())]
    except OSError:
        return []


def is_full(path: Path) -> bool:
    """Return whether the disk of `path` lacks space for the small files of a run."""
    return free_bytes(path) < _MARGIN_BYTES


def free_bytes(path: Path) -> int:
    """Return the free space in bytes on the disk of `path`, which need not exist yet."""
    existing = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    state = os.statvfs(existing)
    return state.f_bavail * state.f_frsize


def require_space(path: Path, needed: Mapping[str, float]) -> None:
    """Raise InputError if artifacts of `needed` bytes (estimates by name) do not fit on the disk of `path`."""
    total, free = sum(needed.values()), free_bytes(path)
    if not total or total + _MARGIN_BYTES <= free:
        return
    listed = ", ".join(f"{name} {readable(size)}" for name, size in needed.items())
    raise InputError(
        f"the disk of {path} has {readable(free)} free, but the run needs about {readable(total + _MARGIN_BYTES)} "
        f"({listed})",
        hint="free disk space, choose another disk with -o, segment a smaller region with --roi, or skip this check "
        "with --force",
    )


def readable(size: float) -> str:
    """Return a number of bytes with a unit."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size / 1e3:.0f} kB"

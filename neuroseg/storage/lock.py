"""The lock of a workspace: one run at a time, also on disks whose file system has no locks.

    .lock         locked by the kernel (flock), which frees it when the process dies, however that ends
    .lock.owner   names the process that holds the workspace; one process creates it, and removes it in the end

Where the kernel cannot lock (Lustre without -o flock, NFS without lockd), the owner's record is the lock: on its own
machine its death is seen, elsewhere the next run is refused and names it. A record whose owner is gone is that of a run
that was killed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from neuroseg.errors import RunRefusedError
from neuroseg.storage.first import write_first
from neuroseg.storage.publish import publish_text

LOCK, OWNER, TAKEOVER = ".lock", ".lock.owner", ".lock.takeover"
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)
_TAKEOVER_S = 60.0  # a record is replaced within moments
_PATIENCE_S, _PAUSE_S = 2.0, 0.05  # a process that was just killed gets a moment to be gone

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Owner:
    """A process that holds, or held, a workspace; `flock` where the kernel held it for that process too.

    `boot` and `space` (of process numbers) are those in which the number means this process, `begun` tells it from a
    later one of the same number.
    """

    process: int
    host: str
    since: str
    machine: str
    boot: str
    space: str
    begun: str
    flock: bool

    def __str__(self) -> str:
        return f"process {self.process} on {self.host} since {self.since}"

    def is_gone(self) -> bool:
        """Return whether the process has certainly ended: it can be seen on its own machine alone."""
        here = _this_process(flock=False)
        if (self.host, self.machine) == (here.host, here.machine) and self.boot != here.boot:
            return True
        return self.is_visible() and _begun(self.process) != self.begun

    def is_visible(self) -> bool:
        """Return whether a process here can see this one: numbers mean the same processes."""
        here = _this_process(flock=False)
        return (self.boot, self.space) == (here.boot, here.space) and here.boot != ""


@contextmanager
def locked(folder: Path) -> Iterator[Owner | None]:
    """Hold the lock of a folder; yields the owner that was killed while it held it, None where none was.

    Raises RunRefusedError when another process holds it, or may hold it and runs where it cannot be seen.
    """
    with (folder / LOCK).open("a") as handle:
        flock = _locks(handle.fileno(), folder)
        if not flock:
            logger.warning("the disk of %s has no file locks (flock); the file %s is used instead", folder, OWNER)
        own = _this_process(flock=flock)
        killed = _take(folder, own)
        try:
            yield killed
        finally:
            if _owner(folder) == own:
                (folder / OWNER).unlink(missing_ok=True)


def is_locked(folder: Path) -> bool:
    """Return whether a process holds the lock of a folder; True where that cannot be seen from here."""
    owner, free = _owner(folder), False
    try:
        with (folder / LOCK).open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        free = True
    except BlockingIOError:
        return True
    except OSError as error:
        logger.debug("the kernel does not tell who holds %s: %s", folder, error)
    return owner is not None and not (free and owner.flock) and not owner.is_gone()


def _locks(descriptor: int, folder: Path) -> bool:
    """Lock for as long as the descriptor is open; False where the file system cannot. Raises RunRefusedError."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise _refused(folder, _owner(folder), certain=True) from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            return False
        time.sleep(_PAUSE_S)


def _take(folder: Path, own: Owner) -> Owner | None:
    """Write the record of the owner; returns the one that it replaces, whose process is gone."""
    deadline, text = time.monotonic() + _PATIENCE_S, yaml.safe_dump(asdict(own), sort_keys=False)
    while not write_first(folder / OWNER, text):
        before = _owner(folder)
        if own.flock and (before is None or before.flock):
            publish_text(folder / OWNER, text)  # the kernel lets no other process come here
            return before
        if before is not None and before.is_gone() and _replaced(folder, before, text):
            return before
        if time.monotonic() > deadline:
            raise _refused(folder, before, certain=before is not None and before.is_visible() and not before.is_gone())
        time.sleep(_PAUSE_S)
    return None


def _replaced(folder: Path, before: Owner | None, text: str) -> bool:
    """Replace the record of an owner that is gone; False where another process is doing so, or has."""
    if not write_first(folder / TAKEOVER, text):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - (folder / TAKEOVER).stat().st_mtime > _TAKEOVER_S:
                (folder / TAKEOVER).unlink()  # of a process that was killed while it replaced the record
        return False
    try:
        if _owner(folder) != before:
            return False
        publish_text(folder / OWNER, text)
        return True
    finally:
        (folder / TAKEOVER).unlink(missing_ok=True)


def _refused(folder: Path, owner: Owner | None, *, certain: bool) -> RunRefusedError:
    """Return the error of a folder that is held; unless that is `certain`, it names the files to remove."""
    message = f"another run ({owner or 'unknown'}) works in {folder}; wait for it or choose another workspace with -o"
    if certain:
        return RunRefusedError(message)
    records = [str(folder / name) for name in (OWNER, TAKEOVER) if (folder / name).exists()]
    return RunRefusedError(
        f"{message}. The disk has no file locks, so this machine cannot see whether that run was killed: if you are "
        f"certain, remove {' and '.join(records)}"
    )


def _owner(folder: Path) -> Owner | None:
    """Return the recorded owner; None where there is no record, or none that can be read."""
    try:
        found = yaml.safe_load((folder / OWNER).read_text())
        return Owner(**found)
    except (OSError, ValueError, RecursionError, yaml.YAMLError, TypeError):
        return None


def _this_process(*, flock: bool) -> Owner:
    return Owner(
        process=os.getpid(),
        host=socket.gethostname(),
        since=time.strftime("%F %T"),
        machine=_text("/etc/machine-id"),
        boot=_text("/proc/sys/kernel/random/boot_id"),
        space=_linked("/proc/self/ns/pid"),
        begun=_begun(os.getpid()),
        flock=flock,
    )


def _begun(process: int) -> str:
    """Return when a process began, in the kernel's ticks; nothing where there is no such process (Linux)."""
    # The name of the program, in brackets, may hold anything.
    fields = _text(f"/proc/{process}/stat").rpartition(")")[2].split()
    is_zombie = fields[:1] in (["Z"], ["X"])
    return "" if is_zombie or not fields else fields[19]


def _text(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text(errors="replace").strip()
    return ""


def _linked(path: str) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(path)
    return ""

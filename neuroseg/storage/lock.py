"""The lock of a workspace: one run at a time, also on file systems without locks.

    .lock         locked by the kernel (flock), which releases it when the process ends for any reason
    .lock.owner   describes the process that holds the workspace, which creates it and removes it when it ends

If the file system cannot lock (Lustre without -o flock, NFS without lockd), the owner's record is the lock. On the
owner's machine, the next run checks whether the owner still runs. On another machine the next run is refused, and the
error names the owner. A record whose owner has ended means that a run was killed.
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
_TAKEOVER_S = 60.0  # replacing a record takes less than a second
_WAIT_S, _PAUSE_S = 2.0, 0.05  # a process that was just killed needs a moment to end

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Owner:
    """A process that holds or held a workspace. `flock`: whether it also held the kernel's lock.

    `boot` and `space` identify the boot of the machine and the namespace of process numbers. `begun` is the start time,
    which distinguishes the process from a later one with the same number.
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
        """Return whether the process has certainly ended. This is known only on the machine of the process."""
        here = _this_process(flock=False)
        if (self.host, self.machine) == (here.host, here.machine) and self.boot != here.boot:
            return True
        return self.is_visible() and _begun(self.process) != self.begun

    def is_visible(self) -> bool:
        """Return whether this process can see the owner: both have the same boot and namespace of process numbers."""
        here = _this_process(flock=False)
        return (self.boot, self.space) == (here.boot, here.space) and here.boot != ""


@contextmanager
def locked(folder: Path) -> Iterator[Owner | None]:
    """Hold the lock of a folder. Yield the owner of a killed run, or None if there was none.

    Raises RunRefusedError if another process holds the lock, or may hold it on another machine.
    """
    with (folder / LOCK).open("a") as handle:
        flock = _lock(handle.fileno(), folder)
        if not flock:
            logger.warning("the file system of %s has no locks (flock); using the file %s instead", folder, OWNER)
        own = _this_process(flock=flock)
        killed = _record_owner(folder, own)
        try:
            yield killed
        finally:
            if _owner(folder) == own:
                (folder / OWNER).unlink(missing_ok=True)


def is_locked(folder: Path) -> bool:
    """Return whether a process holds the lock of a folder. True if the owner is on another machine and may hold it."""
    owner, free = _owner(folder), False
    try:
        with (folder / LOCK).open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        free = True
    except BlockingIOError:
        return True
    except OSError as error:
        logger.debug("cannot test the lock of %s: %s", folder, error)
    return owner is not None and not (free and owner.flock) and not owner.is_gone()


def _lock(descriptor: int, folder: Path) -> bool:
    """Lock until the descriptor is closed. Return False if the file system has no locks. Raises RunRefusedError."""
    deadline = time.monotonic() + _WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise _in_use(folder, _owner(folder), certain=True) from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            return False
        time.sleep(_PAUSE_S)


def _record_owner(folder: Path, own: Owner) -> Owner | None:
    """Write the owner's record. Return the record of a killed run that it replaces. Raises RunRefusedError."""
    deadline, text = time.monotonic() + _WAIT_S, yaml.safe_dump(asdict(own), sort_keys=False)
    while not write_first(folder / OWNER, text):
        before = _owner(folder)
        if own.flock and (before is None or before.flock):
            publish_text(folder / OWNER, text)  # this process holds the kernel's lock
            return before
        if before is not None and before.is_gone() and _replace(folder, before, text):
            return before
        if time.monotonic() > deadline:
            raise _in_use(folder, before, certain=before is not None and before.is_visible() and not before.is_gone())
        time.sleep(_PAUSE_S)
    return None


def _replace(folder: Path, before: Owner | None, text: str) -> bool:
    """Replace the record of an owner that has ended. Return False if another process is replacing it or has done so."""
    if not write_first(folder / TAKEOVER, text):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - (folder / TAKEOVER).stat().st_mtime > _TAKEOVER_S:
                (folder / TAKEOVER).unlink()  # its process was killed while it replaced the record
        return False
    try:
        if _owner(folder) != before:
            return False
        publish_text(folder / OWNER, text)
        return True
    finally:
        (folder / TAKEOVER).unlink(missing_ok=True)


def _in_use(folder: Path, owner: Owner | None, *, certain: bool) -> RunRefusedError:
    """Return the error of a folder that another run holds. Unless that is `certain`, the hint names files to remove."""
    by = f"another run ({owner or 'unknown'})"
    wait = "wait until that run ends, or choose another workspace with -o"
    if certain:
        return RunRefusedError(f"{by} is using {folder}", hint=wait)
    records = [str(folder / name) for name in (OWNER, TAKEOVER) if (folder / name).exists()]
    return RunRefusedError(
        f"{by} may be using {folder}; its file system has no locks, so this machine cannot check whether it still runs",
        hint=f"{wait}; if you are certain that it was killed, remove {' and '.join(records)}",
    )


def _owner(folder: Path) -> Owner | None:
    """Return the recorded owner. None if there is no readable record."""
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
    """Return the start time of a process, in ticks of the kernel (Linux). Empty if the process does not run."""
    # The second field, the name of the program in brackets, may contain spaces and brackets.
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

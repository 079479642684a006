"""Which GPU a process takes: one that no other process of this user holds, by locks in the temporary folder.

    neuroseg-UID/gpus/
      choice       held while a process chooses
      GPU.0        held by the first process that uses this GPU
      GPU.1        held by the second one

The locks belong to the machine, not to a workspace, so that two runs do not use the same GPU while another is free. The
kernel releases them when a process ends.
"""

from __future__ import annotations

import fcntl
import itertools
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from neuroseg.caches import private_folder

logger = logging.getLogger(__name__)


@contextmanager
def held_gpu(gpus: Sequence[str], folder: Path | None = None) -> Iterator[int]:
    """Yield the place in `gpus` of the GPU with the fewest holders, and hold it until the context or the process ends.

    `gpus` are unique identifiers, the preferred one first. `folder` contains the locks. If the temporary folder cannot
    be used, log it and yield 0.
    """
    folder = folder or private_folder("gpus")
    if folder is None:
        logger.warning("no temporary folder for locks: the first GPU is used, also if others use it")
        yield 0
        return
    with ExitStack() as held:
        with ExitStack() as choosing:
            _hold(choosing, folder / "choice", wait=True)
            holders = [_holders(folder, gpu) for gpu in gpus]
            place = holders.index(min(holders))
            slots = (folder / f"{gpus[place]}.{number}" for number in itertools.count())
            next(slot for slot in slots if _hold(held, slot))
        shared = f", which {holders[place]} other workers on this machine use" if holders[place] else ""
        logger.info("this worker predicts on GPU %s%s", gpus[place], shared)
        yield place


def _holders(folder: Path, gpu: str) -> int:
    """Return the number of processes that hold a GPU."""
    with ExitStack() as free:
        return sum(not _hold(free, slot) for slot in folder.glob(f"{gpu}.*"))


def _hold(stack: ExitStack, path: Path, *, wait: bool = False) -> bool:
    """Lock a file until the stack is closed, and return True. Return False if another process holds the lock."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    stack.callback(os.close, file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

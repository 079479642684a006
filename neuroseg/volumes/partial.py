"""A hidden folder for a volume that is not yet complete. Leftovers of killed imports are removed."""

from __future__ import annotations

import logging
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neuroseg.errors import InputError
from neuroseg.storage.lock import LOCK, is_locked, locked

# Another import may have created a folder without a lock a moment ago.
_UNLOCKED_FOR_S = 24 * 3600.0

logger = logging.getLogger(__name__)


@contextmanager
def partial_folder(output: Path) -> Iterator[Path]:
    """Yield a hidden folder next to `output`, on the same disk, and remove it afterwards, also after an error.

    If an import is killed, its folder remains. The next import to the same output removes it. Raises InputError if the
    folder cannot be created.
    """
    remove_leftovers(output)
    folder = output.with_name(f"{_prefix(output)}{secrets.token_hex(4)}")
    try:
        folder.mkdir()
    except OSError as error:
        raise InputError(
            f"cannot write in {output.absolute().parent}: {error}", hint="choose another folder with -o"
        ) from error
    try:
        with locked(folder):
            yield folder
    finally:
        shutil.rmtree(folder)


def remove_leftovers(output: Path) -> None:
    """Remove the hidden folders of imports to `output` that have ended, and log each."""
    for folder in sorted(output.absolute().parent.iterdir()):
        if folder.name.startswith(_prefix(output)) and folder.is_dir() and _is_abandoned(folder):
            logger.warning("removing %s, left over from an import that was killed", folder)
            shutil.rmtree(folder, ignore_errors=True)


def _prefix(output: Path) -> str:
    return f".{output.name}.partial-"


def _is_abandoned(folder: Path) -> bool:
    """Return whether no process writes in a folder. False if this cannot be determined from this machine."""
    try:
        if not (folder / LOCK).exists():
            return time.time() - folder.stat().st_mtime > _UNLOCKED_FOR_S
        return not is_locked(folder)
    except OSError:
        return False

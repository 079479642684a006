"""A hidden folder in which a volume is written until it is whole; those of imports that were killed are removed."""

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

# A folder without a lock may be one that another import has just made.
_UNLOCKED_FOR_S = 24 * 3600.0

logger = logging.getLogger(__name__)


@contextmanager
def partial_folder(output: Path) -> Iterator[Path]:
    """Yield a hidden folder beside `output`, on the same disk; it is gone afterwards, whatever happens.

    A killed import cannot remove its own: the next one of the same output does. Raises InputError when the folder
    cannot be made.
    """
    remove_leftovers(output)
    folder = output.with_name(f"{_prefix(output)}{secrets.token_hex(4)}")
    try:
        folder.mkdir()
    except OSError as error:
        raise InputError(
            f"cannot write in {output.absolute().parent}: {error}; choose another place with -o"
        ) from error
    try:
        with locked(folder):
            yield folder
    finally:
        shutil.rmtree(folder)


def remove_leftovers(output: Path) -> None:
    """Remove the hidden folders of imports of `output` whose processes have ended, and report it."""
    for folder in sorted(output.absolute().parent.iterdir()):
        if folder.name.startswith(_prefix(output)) and folder.is_dir() and _is_abandoned(folder):
            logger.warning("removing %s, left by an import that was killed", folder)
            shutil.rmtree(folder, ignore_errors=True)


def _prefix(output: Path) -> str:
    return f".{output.name}.partial-"


def _is_abandoned(folder: Path) -> bool:
    """Return whether nobody writes in a folder; False where that cannot be seen from here."""
    try:
        if not (folder / LOCK).exists():
            return time.time() - folder.stat().st_mtime > _UNLOCKED_FOR_S
        return not is_locked(folder)
    except OSError:
        return False

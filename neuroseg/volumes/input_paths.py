"""Where a workspace's inputs lie: paths are hints, remembered as they are and as seen from the workspace.

A folder that is moved or copied as a whole is found again by the second.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from neuroseg.errors import InputError
from neuroseg.storage.naming import HDF5_SUFFIXES
from neuroseg.storage.remote import is_remote


def relative_paths(addresses: Iterable[str | None], folder: Path) -> dict[str, str]:
    """Return each absolute path among `addresses` (volumes, datasets of files, bundles) as seen from a folder."""
    seen_from = folder.resolve()
    paths = (address for address in addresses if address and not is_remote(address) and os.path.isabs(address))
    return {path: os.path.relpath(path, seen_from) for path in paths}


def located(address: str, hints: Mapping[str, str], folder: Path) -> str:
    """Return where an input lies now: at `address`, else at the same place as seen from `folder`, else unknown there.

    What is found nowhere is returned as it was.
    """
    if not is_missing(address) or address not in hints:
        return address
    beside = os.path.normpath(folder.resolve() / hints[address])
    return address if is_missing(beside) else beside


def is_missing(address: str) -> bool:
    """Return whether an address names a file or folder that is not there; a server is not asked."""
    if is_remote(address) or not os.path.isabs(address):
        return False
    file, colon, _ = address.rpartition(":")
    is_dataset = colon and Path(file).suffix.lower() in HDF5_SUFFIXES
    return not Path(file if is_dataset else address).exists()


def require_exists(address: str, what: str, fix: str) -> None:
    """Raise InputError where an input that a workspace remembers is gone, with the option that names its new place."""
    if is_missing(address):
        raise InputError(f"the {what} {address} is not there any more; if it moved, {fix}")

"""Paths of a workspace's inputs, stored as absolute paths and relative to the workspace.

If a folder with inputs and workspace is moved or copied, the relative paths still lead to the inputs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from neuroseg.errors import InputError
from neuroseg.storage.naming import HDF5_SUFFIXES
from neuroseg.storage.remote import is_remote


def relative_paths(addresses: Iterable[str | None], folder: Path) -> dict[str, str]:
    """Return each absolute path among `addresses` (volumes, datasets of files, bundles), mapped to its relative path.

    Relative to `folder`. Relative paths and addresses on servers are omitted.
    """
    base = folder.resolve()
    paths = (address for address in addresses if address and not is_remote(address) and os.path.isabs(address))
    return {path: os.path.relpath(path, base) for path in paths}


def located(address: str, relative: Mapping[str, str], folder: Path) -> str:
    """Return the current path of an input: `address` if it exists, else its path relative to `folder`.

    If neither exists, return `address`.
    """
    if not is_missing(address) or address not in relative:
        return address
    moved = os.path.normpath(folder.resolve() / relative[address])
    return address if is_missing(moved) else moved


def is_missing(address: str) -> bool:
    """Return whether the file or folder of an absolute address does not exist. False for servers and relative paths."""
    if is_remote(address) or not os.path.isabs(address):
        return False
    file, colon, _ = address.rpartition(":")
    is_dataset = colon and Path(file).suffix.lower() in HDF5_SUFFIXES
    return not Path(file if is_dataset else address).exists()


def require_exists(address: str, what: str, fix: str) -> None:
    """Raise InputError if an input of a workspace no longer exists. `fix` names the option for its new path."""
    if is_missing(address):
        raise InputError(f"the {what} {address} does not exist", hint=f"if it moved, {fix}")

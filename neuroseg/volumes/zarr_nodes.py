"""Zarr arrays and groups of users, opened read-only. What cannot be opened is an InputError of one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import zarr

from neuroseg.errors import InputError
from neuroseg.storage.remote import is_remote, reading, remote_store
from neuroseg.storage.trees import Place
from neuroseg.volumes.foreign import refuse_foreign
from neuroseg.volumes.soundness import require_sound_array, require_sound_metadata
from neuroseg.volumes.zarr_codecs import MISSING_CODEC, missing_codec, require_codecs

# What zarr raises on metadata that do not describe an array or a group.
_UNREADABLE = (
    FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, IndexError, ArithmeticError, RecursionError,
)  # fmt: skip


def open_node(path: Place | str) -> Any:
    """Return the zarr array or group at `path`, opened read-only. Raises InputError if there is none.

    `path` may be an address on a server (storage/remote.py).
    """
    address = str(path)
    if is_remote(address):
        with reading(address):
            _open_node(remote_store(address, opening=True), address)
        return _open_node(remote_store(address), address)
    if not Path(address).exists():
        raise InputError(f"{path} does not exist")
    refuse_foreign(address)
    require_sound_metadata(Path(address))
    return _open_node(address, address)


def _open_node(store: Any, path: str) -> Any:
    try:
        node = zarr.open(store=store, mode="r")
    except MISSING_CODEC as error:
        raise missing_codec(path, error) from error
    except (*_UNREADABLE, zarr.errors.NodeNotFoundError) as error:
        raise InputError(f"{path} is not a zarr array or group: {error}") from error
    if hasattr(node, "shape"):
        require_sound_array(path, node.shape, node.chunks)
    require_codecs(node, path)
    return node

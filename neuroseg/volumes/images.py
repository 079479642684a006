"""Zarr groups: their members, and the OME-NGFF level that describes an array."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from neuroseg.errors import InputError
from neuroseg.storage.remote import is_remote
from neuroseg.volumes.metadata import Level, ome_levels
from neuroseg.volumes.soundness import METADATA
from neuroseg.volumes.zarr_nodes import open_node

logger = logging.getLogger(__name__)

_DESCRIBED = ("zarr.json", ".zattrs")
_MOST_ABOVE = 2  # V.zarr/0, or V.zarr/scale0/image as some writers have it


def level_of_image(address: str) -> Level | None:
    """Return the OME-NGFF level that describes the array at `address`. None if no image above lists the array."""
    parts = address.rstrip("/").split("/")
    for above in range(1, min(_MOST_ABOVE, len(parts) - 1) + 1):
        folder, inside = "/".join(parts[:-above]), "/".join(parts[-above:])
        found = next((level for level in _levels_at(folder) if level.path.strip("/") == inside), None)
        if found is not None:
            return found
    return None


def _levels_at(folder: str) -> list[Level]:
    """Return the levels of the image in a folder, an empty list if there is none or its metadata are unreadable.

    Unreadable metadata are only a warning: the user named the array inside, which may be sound.
    """
    if not is_remote(folder) and not any((Path(folder) / name).is_file() for name in _DESCRIBED):
        return []
    try:
        node = open_node(folder)
        return [] if hasattr(node, "shape") else ome_levels(node.attrs)
    except InputError as error:
        if not is_remote(folder):
            logger.warning(
                "ignoring the metadata of %s, which may describe the arrays inside: %s", folder, error.args[0]
            )
        return []


def member(group: Any, address: str, name: str) -> Any:
    """Return the array or group `name` inside the group at `address`, or None if there is none."""
    if is_remote(address):
        return group.get(name)
    inside = Path(address) / name
    return open_node(str(inside)) if is_node(inside) else None


def members(group: Any, address: str) -> list[str]:
    """Return the sorted names of the arrays and groups inside a group."""
    if is_remote(address):
        return sorted(group.keys())
    return sorted(path.name for path in Path(address).iterdir() if is_node(path))


def is_node(path: Path) -> bool:
    """Return whether a folder contains zarr metadata. Reads no file."""
    return any(os.path.lexists(path / name) for name in METADATA)

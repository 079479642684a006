"""Datasets of HDF5 files, opened read-only. Links and parts outside the file's folder are refused.

An HDF5 file may link to other files, store its voxels in them, or combine them. A file from another folder may contain
anything, so it is not read as a part of the user's volume.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
from h5py import h5l

from neuroseg.errors import InputError
from neuroseg.volumes.hdf5 import open_hdf5
from neuroseg.volumes.hdf5_filters import require_filters
from neuroseg.volumes.soundness import require_regular, require_sound_array

_MOST_LINKS = 32
_SAME_FILE = "."


def open_dataset(file: str, name: str) -> h5py.Dataset:
    """Return a dataset of a file.

    Raises InputError if it does not exist or cannot be read, if its links form a loop, and if a link, part or source
    lies outside the file's folder.
    """
    if not Path(file).exists():
        raise InputError(f"{file} does not exist")
    node = _followed(file, name)
    if not isinstance(node, h5py.Dataset):
        raise InputError(f"{file} has no dataset {name!r} ({listed_datasets(file)})")
    address = f"{file}:{name}"
    for part in _parts_elsewhere(node):
        _require_inside(address, part, Path(file).parent)
    require_sound_array(address, node.shape or (), node.chunks)
    require_filters(node, address)
    return node


def listed_datasets(file: str) -> str:
    """Return the names of a file's datasets as text, or why there are none."""
    if not Path(file).exists():
        return "the file does not exist"
    try:
        with _opened(Path(file)) as handle:
            names: list[str] = []
            handle.visititems(lambda name, node: names.append(name) if isinstance(node, h5py.Dataset) else None)
    except (InputError, OSError, RuntimeError):
        return "not a readable HDF5 file"
    return f"datasets: {', '.join(names) or 'none'}"


def _opened(path: Path) -> h5py.File:
    require_regular(path)  # opening a FIFO would block forever
    try:
        return open_hdf5(path)
    except OSError as error:
        raise InputError(f"{path} is not a readable HDF5 file: {error}") from error


def _followed(file: str, name: str) -> Any:
    """Return the node at a path, following one link after the other. None if there is none."""
    path, links = Path(file), 0
    node: Any = _opened(path)
    parts = _parts(name)
    while parts:
        if not isinstance(node, h5py.Group):
            return None
        part = parts.pop(0).encode()
        try:
            kind = node.id.links.get_info(part).type
        except (KeyError, RuntimeError):
            return None
        links += kind != h5l.TYPE_HARD
        if links > _MOST_LINKS:
            raise InputError(f"{file}: {name!r} leads through more than {_MOST_LINKS} links, which may form a loop")
        if kind == h5l.TYPE_EXTERNAL:
            target, inside = node.id.links.get_val(part)
            path = _require_inside(f"{file}:{name}", path.parent / target.decode(), Path(file).parent)
            node, parts = _opened(path), [*_parts(inside.decode()), *parts]
        elif kind == h5l.TYPE_SOFT:
            target = node.id.links.get_val(part).decode()
            node, parts = node.file if target.startswith("/") else node, [*_parts(target), *parts]
        else:
            node = node[part]
    return node


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _parts_elsewhere(dataset: h5py.Dataset) -> Iterator[Path]:
    """Yield the other files that contain voxels of a dataset, at the paths where HDF5 looks for them."""
    for name, _, _ in dataset.external or ():
        yield Path.cwd() / name
    if dataset.is_virtual:
        folder = Path(dataset.file.filename).parent
        yield from (folder / source.file_name for source in dataset.virtual_sources() if source.file_name != _SAME_FILE)


def _require_inside(address: str, part: Path, folder: Path) -> Path:
    """Return `part`, a file that a volume links to.

    Raises InputError if it lies outside `folder` or is not a regular file. A missing file is not an error here.
    """
    if not part.resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"{address} links to {part}, expected files inside {folder.resolve()}",
            hint="copy the linked dataset into one file, for example with h5py",
        )
    if part.exists():
        require_regular(part)
    return part

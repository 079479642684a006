"""Datasets of HDF5 files, opened read-only, whose links and parts stay within the folder of their file.

An HDF5 file may link to other files, keep its voxels in them, or be put together from them. What lies elsewhere is
none of the volume that the user named, and may be anything.
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
    """Return a dataset of a file; raises InputError when there is none that can be read.

    Links that loop are refused, as are links, parts and sources outside the file's folder.
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
    """Return the datasets of a file as text."""
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
    require_regular(path)  # opening a FIFO would wait for ever
    try:
        return open_hdf5(path)
    except OSError as error:
        raise InputError(f"{path} is not a readable HDF5 file: {error}") from error


def _followed(file: str, name: str) -> Any:
    """Return what a path leads to, one link after the other; None where nothing is."""
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
            raise InputError(
                f"{file}: the links of {name!r} lead in a circle, or follow more than {_MOST_LINKS} others"
            )
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
    """Yield the files other than its own that a dataset's voxels lie in, as HDF5 looks for them."""
    for name, _, _ in dataset.external or ():
        yield Path.cwd() / name
    if dataset.is_virtual:
        folder = Path(dataset.file.filename).parent
        yield from (folder / source.file_name for source in dataset.virtual_sources() if source.file_name != _SAME_FILE)


def _require_inside(address: str, part: Path, folder: Path) -> Path:
    """Return a file that a volume leads to; raises InputError unless it is a regular file inside its folder, or none.

    What is missing is the reader's business.
    """
    if not part.resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"{address} leads to {part}, outside the folder {folder.resolve()}; copy what it holds into one file"
        )
    if part.exists():
        require_regular(part)
    return part

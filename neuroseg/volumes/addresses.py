"""Addresses of volumes: `file.h5:dataset`, a zarr path, or a zarr on a server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from neuroseg.errors import InputError
from neuroseg.geometry import Nanometres
from neuroseg.storage.naming import HDF5_SUFFIXES
from neuroseg.storage.remote import is_remote
from neuroseg.volumes.axes import named_axes
from neuroseg.volumes.description import plain_facts
from neuroseg.volumes.hdf5_datasets import listed_datasets, open_dataset
from neuroseg.volumes.selection import WHOLE_FILE, Selection
from neuroseg.volumes.volume import Volume, open_volume, opened


def open_any(
    address: str,
    *,
    level: int = 0,
    voxel_size_nm: Nanometres | None = None,
    selection: Selection = WHOLE_FILE,
) -> Volume:
    """Return the volume at `file.h5:dataset`, at a zarr path or at the address of a zarr on a server (remote.py).

    `voxel_size_nm` and `selection` override the file's own metadata. Raises InputError if there is no volume.
    """
    file, colon, dataset = address.rpartition(":")
    if not is_remote(address):
        if colon and Path(file).suffix.lower() in HDF5_SUFFIXES:
            if level:
                raise InputError(f"{address} is one dataset without levels, found --level {level}", hint="omit --level")
            return _open_hdf5(file, dataset, voxel_size_nm, selection)
        if Path(address).suffix.lower() in HDF5_SUFFIXES:
            raise InputError(
                f"{address} is an HDF5 file, and the dataset is missing ({listed_datasets(address)})",
                hint=f"add the name of the dataset: {address}:NAME",
            )
    return open_volume(address, level=level, voxel_size_nm=voxel_size_nm, selection=selection)


def find_file(address: str, folders: Sequence[str]) -> str:
    """Return `address` with the first of `folders` that contains its file. Raises InputError that lists the folders."""
    if is_remote(address):
        return address
    file, colon, dataset = address.rpartition(":")
    name = file if colon and Path(file).suffix.lower() in HDF5_SUFFIXES else address
    for folder in folders:
        candidate = Path(folder) / name
        if candidate.exists():
            return f"{candidate}:{dataset}" if name == file else str(candidate)
    raise InputError(f"{name} is in none of the folders {', '.join(folders)} (relative to {Path.cwd()})")


def _open_hdf5(file: str, dataset: str, voxel_size_nm: Nanometres | None, selection: Selection) -> Volume:
    node = open_dataset(file, dataset)
    address = f"{file}:{dataset}"
    attributes = dict(node.attrs)
    names = named_axes(attributes, labels=[dimension.label for dimension in node.dims])
    return opened(address, node, plain_facts(address, node.shape, names, attributes), selection, voxel_size_nm)

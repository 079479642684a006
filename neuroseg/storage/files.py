"""One address for any volume: `file.h5:dataset`, a zarr path, or a zarr on a server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py

from neuroseg.errors import InputError
from neuroseg.geometry import Nanometres
from neuroseg.storage.hdf5 import open_hdf5
from neuroseg.storage.hdf5_filters import require_filters
from neuroseg.storage.metadata import plain_metadata
from neuroseg.storage.remote import is_remote
from neuroseg.storage.volumes import Volume, checked, open_volume

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")


def open_any(address: str, *, level: int = 0, voxel_size_nm: Nanometres | None = None) -> Volume:
    """Return the volume at `file.h5:dataset`, at a zarr path or at the address of a zarr on a server (remote.py).

    Raises InputError when there is none.
    """
    file, colon, dataset = address.rpartition(":")
    if is_remote(address):
        return open_volume(address, level=level, voxel_size_nm=voxel_size_nm)
    if colon and Path(file).suffix.lower() in HDF5_SUFFIXES:
        if level:
            raise InputError(f"{address} is one dataset, without a pyramid; leave --level {level} out")
        return _open_hdf5(file, dataset, voxel_size_nm)
    if Path(address).suffix.lower() in HDF5_SUFFIXES:
        raise InputError(f"name the dataset in {address}: {address}:NAME ({_listed(address)})")
    return open_volume(address, level=level, voxel_size_nm=voxel_size_nm)


def find_file(address: str, folders: Sequence[str]) -> str:
    """Return `address` with its file looked up in `folders`, in order; raises InputError naming where it looked."""
    if is_remote(address):
        return address
    file, colon, dataset = address.rpartition(":")
    name = file if colon and Path(file).suffix.lower() in HDF5_SUFFIXES else address
    for folder in folders:
        candidate = Path(folder) / name
        if candidate.exists():
            return f"{candidate}:{dataset}" if name == file else str(candidate)
    raise InputError(f"{name} is in none of the folders {', '.join(folders)} (seen from {Path.cwd()})")


def _open_hdf5(file: str, dataset: str, voxel_size_nm: Nanometres | None) -> Volume:
    if not Path(file).exists():
        raise InputError(f"{file} does not exist")
    try:
        handle = open_hdf5(file)
    except OSError as error:
        raise InputError(f"{file} is not a readable HDF5 file: {error}") from error
    node = handle.get(dataset)
    if not isinstance(node, h5py.Dataset):
        raise InputError(f"{file} has no dataset {dataset!r} ({_listed(file)})")
    if node.ndim != 3:
        raise InputError(f"{file}:{dataset} is a {node.ndim}D array of shape {node.shape}; 3D (z, y, x) is expected")
    require_filters(node, f"{file}:{dataset}")
    size, offset = plain_metadata(dict(node.attrs), node.ndim)
    return checked(Volume(f"{file}:{dataset}", node, voxel_size_nm or size, offset, placed="offset" in node.attrs))


def _listed(file: str) -> str:
    """Return the datasets of a file as text."""
    if not Path(file).exists():
        return "the file does not exist"
    try:
        with open_hdf5(file) as handle:
            names: list[str] = []
            handle.visititems(lambda name, node: names.append(name) if isinstance(node, h5py.Dataset) else None)
    except OSError:
        return "not a readable HDF5 file"
    return f"datasets: {', '.join(names) or 'none'}"

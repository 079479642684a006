"""HDF5 files of users, opened read-only, also on file systems without locks."""

from __future__ import annotations

from pathlib import Path

import h5py

from neuroseg.storage.lock import NO_LOCKS


def open_hdf5(file: Path | str) -> h5py.File:
    """Return an HDF5 file, opened read-only.

    HDF5 locks the file against writers. If the file system has no locks, the file is opened without one. Raises OSError
    if the file cannot be read or another program is writing it.
    """
    try:
        return h5py.File(file, "r")
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return h5py.File(file, "r", locking=False)

"""HDF5 files of users, opened read-only; also on disks without file locks."""

from __future__ import annotations

from pathlib import Path

import h5py

from neuroseg.storage.lock import NO_LOCKS


def open_hdf5(file: Path | str) -> h5py.File:
    """Return an HDF5 file, read-only; raises OSError where it cannot be read, or another program is writing it.

    HDF5 locks what it reads, so that nobody writes it meanwhile. Where the file system cannot, it is read without.
    """
    try:
        return h5py.File(file, "r")
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return h5py.File(file, "r", locking=False)

"""HDF5 files on disks whose file system has no locks."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from neuroseg.volumes.hdf5 import open_hdf5


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_on_a_disk_without_locks_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = np.arange(3)
    opened, modes = h5py.File, []

    def without_locks(name: Path, mode: str, locking: Any = None) -> h5py.File:
        modes.append(mode)
        if locking is None:
            raise OSError(number, "unable to lock file")
        return opened(name, mode, locking=locking)

    monkeypatch.setattr(h5py, "File", without_locks)
    with open_hdf5(tmp_path / "a.h5") as file:
        assert file["raw"][:].tolist() == [0, 1, 2]
    assert modes == ["r", "r"]


WRITER = """
import sys, h5py
with h5py.File(sys.argv[1], "w", locking=True):
    print("open", flush=True)
    sys.stdin.read()
"""


def test_a_file_that_is_being_written_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path / "a.h5")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        with pytest.raises(OSError, match="unable to lock file"):
            open_hdf5(tmp_path / "a.h5")
        writer.communicate()

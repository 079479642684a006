"""Folders of workspaces: how one is called, and whether a folder is one."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from neuroseg.storage.remote import is_remote

# Of files that hold several volumes: each is addressed as FILE:DATASET.
HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
STORE = "store.yaml"
_HASH_LENGTH = 6


def default_workspace(volume_path: str) -> Path:
    """Return `V.neuroseg` beside the volume `V.zarr`; for an array inside a zarr, beside that zarr.

    `file.h5:group/dataset` gives `file_group_dataset.neuroseg` beside the file. What lies on a server has its workspace
    in the current folder.
    """
    if is_remote(volume_path):
        parts = volume_path.partition("://")[2].rstrip("/").split("/")
        name = next((part for part in reversed(parts) if part.endswith(".zarr")), parts[-1])
        return Path(f"{name.removesuffix('.zarr').removesuffix('.neuroseg')}.neuroseg")
    file, colon, dataset = volume_path.rpartition(":")
    if colon and Path(file).suffix.lower() in HDF5_SUFFIXES:
        return Path(file).with_name(f"{Path(file).stem}_{_plain(dataset)}.neuroseg")
    path = Path(volume_path)
    if path.suffix == ".neuroseg":
        return path
    root = next((parent for parent in (path, *path.parents) if parent.suffix == ".zarr"), path)
    return root.with_suffix(".neuroseg") if root.suffix == ".zarr" else root.with_name(root.name + ".neuroseg")


def _plain(dataset: str) -> str:
    """Return a dataset's path as part of a file name that every system takes.

    Where other paths of the file could give the same name, a hash of the path keeps them apart.
    """
    parts = [part for part in dataset.split("/") if part]
    name = re.sub(r"[^A-Za-z0-9._-]", "_", "_".join(parts))
    nested = len(parts) > 1 and any("_" in part for part in parts)
    if not nested and name == "_".join(parts):
        return name
    return f"{name}-{hashlib.sha256('/'.join(parts).encode()).hexdigest()[:_HASH_LENGTH]}"


def is_unused(path: Path) -> bool:
    """Return whether a run may begin in the folder: nothing is there, or what a run left that lacks only `run.yaml`."""
    if not path.exists():
        return True
    left = {entry.name for entry in path.iterdir()} if path.is_dir() else {"a file"}
    begun = {name for name in left if name.startswith((".lock", ".secret-")) or name.endswith(".partial")}
    return has_marks(path) or left - begun <= {"ledger", STORE}


def has_marks(path: Path) -> bool:
    """Return whether a run completed blocks in the folder, whatever became of its description."""
    return any(done.is_dir() for done in path.glob("ledger/*/done"))


def is_workspace(path: Path) -> bool:
    """Return whether `path` is the folder of a run."""
    return (path / "run.yaml").is_file()


def workspace_around(path: Path) -> Path | None:
    """Return the workspace that a path lies in, None where it lies in none."""
    return next((folder for folder in path.absolute().parents if is_workspace(folder)), None)

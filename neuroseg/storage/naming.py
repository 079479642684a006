"""Name the folder of a workspace, and recognise one."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from neuroseg.storage.remote import is_remote

# Files that contain several volumes; one is addressed as FILE:DATASET.
HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
STORE = "store.yaml"
_HASH_LENGTH = 6


def default_workspace(volume_path: str) -> Path:
    """Return the workspace of a volume: `V.neuroseg` next to `V.zarr`, also for an array inside `V.zarr`.

    `file.h5:group/dataset` gives `file_group_dataset.neuroseg` next to the file. The workspace of a volume on a server
    is in the current folder.
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
    """Return a dataset's path as part of a file name that every system accepts.

    If another path could give the same name, add a hash of the path.
    """
    parts = [part for part in dataset.split("/") if part]
    name = re.sub(r"[^A-Za-z0-9._-]", "_", "_".join(parts))
    nested = len(parts) > 1 and any("_" in part for part in parts)
    if not nested and name == "_".join(parts):
        return name
    return f"{name}-{hashlib.sha256('/'.join(parts).encode()).hexdigest()[:_HASH_LENGTH]}"


def is_unused(path: Path) -> bool:
    """Return whether a run may begin in a folder: it is missing or empty, or a run stopped there before `run.yaml`."""
    if not path.exists():
        return True
    left = {entry.name for entry in path.iterdir()} if path.is_dir() else {"a file"}
    begun = {name for name in left if name.startswith((".lock", ".secret-")) or name.endswith(".partial")}
    return has_marks(path) or left - begun <= {"ledger", STORE}


def has_marks(path: Path) -> bool:
    """Return whether there are marks of blocks in the folder, with or without `run.yaml`."""
    return any(path.glob("ledger/*/marks"))


def is_workspace(path: Path) -> bool:
    """Return whether `path` is the folder of a run."""
    return (path / "run.yaml").is_file()


def workspace_around(path: Path) -> Path | None:
    """Return the workspace that contains a path, or None."""
    return next((folder for folder in path.absolute().parents if is_workspace(folder)), None)

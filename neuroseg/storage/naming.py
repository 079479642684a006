"""Folders of workspaces: how one is called, and whether a folder is one."""

from __future__ import annotations

from pathlib import Path

from neuroseg.storage.remote import is_remote

STORE = "store.yaml"


def default_workspace(volume_path: str) -> Path:
    """Return `V.neuroseg` beside the volume `V.zarr`; for an array inside a zarr, beside that zarr.

    `file.h5:dataset` gives `file_dataset.neuroseg`; what lies on a server has its workspace in the current folder.
    """
    if is_remote(volume_path):
        parts = volume_path.partition("://")[2].rstrip("/").split("/")
        name = next((part for part in reversed(parts) if part.endswith(".zarr")), parts[-1])
        return Path(f"{name.removesuffix('.zarr').removesuffix('.neuroseg')}.neuroseg")
    path = Path(volume_path)
    if ":" in path.name:
        file, _, dataset = path.name.partition(":")
        return path.with_name(f"{Path(file).stem}_{dataset}.neuroseg")
    if path.suffix == ".neuroseg":
        return path
    root = next((parent for parent in (path, *path.parents) if parent.suffix == ".zarr"), path)
    return root.with_suffix(".neuroseg") if root.suffix == ".zarr" else root.with_name(root.name + ".neuroseg")


def is_unused(path: Path) -> bool:
    """Return whether a run may begin in the folder: nothing is there, or only what a run leaves that barely began."""
    if not path.exists():
        return True
    return path.is_dir() and {entry.name for entry in path.iterdir()} <= {".lock", "ledger", STORE}


def is_workspace(path: Path) -> bool:
    """Return whether `path` is the folder of a run."""
    return (path / "run.yaml").is_file()


def workspace_around(path: Path) -> Path | None:
    """Return the workspace that a path lies in, None where it lies in none."""
    return next((folder for folder in path.absolute().parents if is_workspace(folder)), None)

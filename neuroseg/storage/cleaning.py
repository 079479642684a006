"""Removing the intermediate artifacts of a finished run."""

from __future__ import annotations

import shutil
from pathlib import Path

from neuroseg.storage.workspace import REDUCED, Workspace

_REMOVED = ".removed"
KEEP = ("all", "fragments", "segmentation")


def intermediates(workspace: Workspace, keep: str) -> list[Path]:
    """Return the artifacts in the workspace that `keep` does not name.

    `fragments` keeps what another threshold and `evaluate --sweep` need (fragments, merge tree, segmentation);
    `segmentation` keeps the segmentation and the table of its segments; `all` keeps everything.
    """
    removed = {
        "all": [],
        "fragments": [
            workspace.affinities,
            workspace.provisional,
            workspace.entries,
            workspace.edges,
            workspace.nodes,
            workspace.bins,
            workspace.long_range,
            workspace.long_range_bins,
            workspace.path / REDUCED,
        ],
    }
    removed["segmentation"] = [*removed["fragments"], workspace.fragments, workspace.tree]
    # And what an interrupted removal left.
    return [path for path in removed[keep] if path.exists()] + sorted(workspace.path.glob(f".*{_REMOVED}"))


def bytes_of(paths: list[Path]) -> int:
    """Return how many bytes the files at or below `paths` occupy."""
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
    return sum(file.stat().st_size for file in files)


def remove(paths: list[Path]) -> None:
    """Remove files and folders; each disappears from its place in one step before its content is deleted."""
    for path in paths:
        if path.is_file():
            path.unlink()
            continue
        aside = path if path.name.endswith(_REMOVED) else path.with_name(f".{path.name}{_REMOVED}")
        if aside != path:
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
        shutil.rmtree(aside)

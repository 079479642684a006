"""Remove the intermediate artifacts of a run."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

from neuroseg.storage.merges import level_places
from neuroseg.storage.remote_path import RemotePath
from neuroseg.storage.trees import Place, remove_all
from neuroseg.storage.workspace import Workspace

_REMOVED = ".removed"
STREAM = "stream"
KEEP = ("all", STREAM, "fragments", "segmentation")
TEMPORARY = ("provisional.zarr", "entries")
"""Artifacts that no stage after `edges` reads. A finished run never keeps them."""


def intermediates(workspace: Workspace, keep: str) -> list[Place]:
    """Return the artifacts that `keep` removes from the workspace.

    - `all` keeps everything.
    - `stream` keeps everything except the affinities.
    - `fragments` keeps fragments, merge tree and segmentation, which another threshold and `evaluate --sweep` need.
    - `segmentation` keeps the segmentation and the table of its segments.

    Include files that an interrupted removal left.
    """
    trees = level_places(workspace, lambda table: table == "tree")
    removed: dict[str, list[Place]] = {
        "all": [],
        STREAM: [workspace.affinities],
        "fragments": [
            workspace.affinities,
            workspace.edges,
            workspace.nodes,
            workspace.bins,
            workspace.long_range,
            workspace.long_range_bins,
            *level_places(workspace, lambda table: table.startswith("open_")),
        ],
    }
    removed["segmentation"] = [*removed["fragments"], workspace.fragments, workspace.tree, *trees]
    left = [path for path in workspace.artifacts.iterdir() if path.name.endswith(_REMOVED)]
    return left + _existing(removed[keep])


def temporary(workspace: Workspace) -> list[Place]:
    """Return the temporary artifacts in the workspace. Include files that an interrupted removal left."""
    return _existing(workspace.artifacts / each for name in TEMPORARY for each in (_while_removed(name), name))


def _existing(places: Iterable[Place]) -> list[Place]:
    return [place for place in places if place.is_dir() or place.is_file()]


def _while_removed(name: str) -> str:
    """Return the name of a folder while it is removed."""
    return f".{name}{_REMOVED}"


def remove(paths: list[Place]) -> None:
    """Remove files and folders. Rename each folder first, so that an interrupted removal leaves no partial artifact."""
    for path in paths:
        if isinstance(path, RemotePath) or path.is_file():
            remove_all(path)
            continue
        aside = path if path.name.endswith(_REMOVED) else path.with_name(_while_removed(path.name))
        if aside != path:
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
        shutil.rmtree(aside)

"""The place of labels while they are written. A finished segmentation replaces the earlier one in one step.

on a disk      .segmentation.TOKEN.partial.zarr/0, 1, ...  ->  renamed to segmentation.zarr
on a server    segmentation.zarr/TOKEN/0, 1, ...           ->  segmentation.zarr/zarr.json names these levels

A server cannot rename. There, a new segmentation lies next to the earlier one. Writing the metadata, one small object,
replaces one by the other in one step, and nothing is copied. TOKEN is a hash of the settings.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from neuroseg.storage.trees import Place, discard
from neuroseg.storage.workspace import Workspace

_METADATA = "zarr.json"


def labels_of(workspace: Workspace) -> Place:
    """Return the folder with the arrays `0` (full resolution), `1` and so on of the segmentation.

    On a server it is the folder that the metadata name, or `workspace.segmentation` if there is no finished one.
    """
    image = workspace.segmentation
    if isinstance(image, Path):
        return image
    try:
        described = json.loads((image / _METADATA).read_bytes())["attributes"]["ome"]["multiscales"][0]
        folder = str(described["datasets"][0]["path"]).rpartition("/")[0]
    except (FileNotFoundError, ValueError, LookupError, TypeError):  # missing or damaged
        return image
    return image / folder if folder else image


def unfinished_name(workspace: Workspace, token: str) -> str:
    """Return the name of the artifact that a segmentation is written to. `token`: a hash of its settings."""
    if isinstance(workspace.artifacts, Path):
        return f".segmentation.{token}.partial.zarr"
    return f"{workspace.segmentation.name}/{token}"


def finished_name(workspace: Workspace, unfinished: str) -> str:
    """Return the name of the same artifact after it is published."""
    return workspace.segmentation.name if isinstance(workspace.artifacts, Path) else unfinished


def publish_segmentation(workspace: Workspace, unfinished: str) -> None:
    """Replace the segmentation by a finished one with metadata. Remove the earlier one and all unfinished ones.

    On a server, the metadata have replaced it before.
    """
    target, source = workspace.segmentation, workspace.artifact(unfinished)
    if isinstance(target, Path) and isinstance(source, Path):
        if target.exists():
            target.rename(target.with_name(f".segmentation.{secrets.token_hex(4)}.before.zarr"))
        source.rename(target)
    remove_unfinished(workspace)


def remove_unfinished(workspace: Workspace, keep: str = "") -> None:
    """Remove all unfinished segmentations except `keep`. On a server they stay until one is finished."""
    image, labels = workspace.segmentation, labels_of(workspace)
    found: list[Place] = []
    if isinstance(image, Path):
        found = [path for path in image.parent.iterdir() if path.name.startswith(".segmentation.")]
    elif labels != image:
        found = [path for path in image.iterdir() if path not in (labels, image / _METADATA)]
    for path in found:
        if path != workspace.artifact(keep):
            discard(path)

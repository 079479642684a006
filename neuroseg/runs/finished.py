"""Check whether the segmentation of a workspace is finished and complete on disk.

A finished segmentation is published: a disk renames it to its final name, a server gets metadata that name its levels.
Then a mark is written next to the ledgers: a hash of the stages and the region that it was computed from.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from neuroseg.errors import DamagedError, InputError
from neuroseg.runs.damage import as_published, require_whole
from neuroseg.runs.plan import Plan, hash_of
from neuroseg.segmentation.stage import PyramidStage, RelabelStage
from neuroseg.stage import Stage
from neuroseg.storage.arrays import is_array
from neuroseg.storage.workspace import Workspace
from neuroseg.volumes.metadata import ome_levels
from neuroseg.volumes.zarr_nodes import open_node


def views_of(stages: Sequence[Stage]) -> list[RelabelStage | PyramidStage]:
    """Return the stages that write the segmentation: relabel and the pyramid's levels."""
    return [stage for stage in stages if isinstance(stage, RelabelStage | PyramidStage)]


def published_mark(workspace: Workspace) -> Path:
    """Return the path of the mark of the published segmentation."""
    return workspace.path / "ledger" / "published"


def wanted_mark(plan: Plan, views: Sequence[Stage]) -> str:
    """Return the content that the mark of a segmentation by this plan must have."""
    return hash_of({"views": [dict(stage.identity) for stage in views], "roi": plan.roi})


def is_published(workspace: Workspace, published: Path, wanted: str) -> bool:
    """Return whether the published segmentation is the wanted one, and the metadata of all its levels exist."""
    try:
        if published.read_text(errors="replace") != wanted:
            return False
        described = open_node(workspace.segmentation).attrs
        levels = [level.path for level in ome_levels(described)]
    except (OSError, InputError):
        return False
    return "neuroseg" in described and bool(levels) and all(is_array(workspace.segmentation / name) for name in levels)


def is_finished(workspace: Workspace, plan: Plan) -> bool:
    """Return whether the workspace contains the segmentation that its plan describes."""
    return is_published(workspace, published_mark(workspace), wanted_mark(plan, views_of(plan.stages(workspace))))


def stages_as_stored(workspace: Workspace, plan: Plan) -> list[Stage]:
    """Return every stage of a run. If the segmentation is finished, its stages refer to the published one."""
    every = plan.stages(workspace)
    return as_published(workspace, every) if is_finished(workspace, plan) else every


def require_whole_artifact(workspace: Workspace, plan: Plan, artifact: str) -> None:
    """Raise DamagedError if files of a finished artifact are missing, because zarr would read them as zeros."""
    if artifact != workspace.segmentation.name or is_finished(workspace, plan):
        require_whole(workspace, plan.stages(workspace), artifact)
        return
    try:
        open_node(workspace.segmentation)
    except InputError as error:
        raise DamagedError(
            f"the metadata of {workspace.segmentation} are missing or damaged",
            hint=f"run neuroseg segment {workspace.path} to recompute the segmentation",
        ) from error

"""Whether the segmentation of a workspace is finished, and whether all of it is still there.

A finished segmentation is swapped in under its name, and a mark of what it was made of is written beside the ledgers.
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
    return [stage for stage in stages if isinstance(stage, RelabelStage | PyramidStage)]


def published_mark(workspace: Workspace) -> Path:
    return workspace.path / "ledger" / "published"


def wanted_mark(plan: Plan, views: Sequence[Stage]) -> str:
    """Return the hash that the mark of a published segmentation must hold."""
    return hash_of({"views": [dict(stage.identity) for stage in views], "roi": plan.roi})


def is_published(workspace: Workspace, published: Path, wanted: str) -> bool:
    """Return whether the marked segmentation is the wanted one, and the descriptions of all its levels are there."""
    try:
        if published.read_text(errors="replace") != wanted:
            return False
        described = open_node(workspace.segmentation).attrs
        levels = [level.path for level in ome_levels(described)]
    except (OSError, InputError):
        return False
    return "neuroseg" in described and bool(levels) and all(is_array(workspace.segmentation / name) for name in levels)


def is_finished(workspace: Workspace, plan: Plan) -> bool:
    """Return whether the workspace holds the segmentation that its plan describes."""
    return is_published(workspace, published_mark(workspace), wanted_mark(plan, views_of(plan.stages(workspace))))


def stages_as_stored(workspace: Workspace, plan: Plan) -> list[Stage]:
    """Return every stage of a run; those of a finished segmentation as of the place where it lies."""
    every = plan.stages(workspace)
    return as_published(workspace, every) if is_finished(workspace, plan) else every


def require_whole_artifact(workspace: Workspace, plan: Plan, artifact: str) -> None:
    """Raise DamagedError where files of a finished artifact are missing: they would be read as zeros."""
    if artifact != workspace.segmentation.name or is_finished(workspace, plan):
        require_whole(workspace, plan.stages(workspace), artifact)
        return
    try:
        open_node(workspace.segmentation)
    except InputError as error:
        raise DamagedError(
            f"{workspace.segmentation} has lost its description; run `neuroseg segment {workspace.path}` to make it "
            "again"
        ) from error

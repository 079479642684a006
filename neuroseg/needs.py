"""What a run will write: estimates, before it begins, from what real runs wrote per voxel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from neuroseg.stage import Stage
from neuroseg.storage.workspace import Workspace

# Bytes per voxel of FIB-25 at 10 nm, blocks of 64 to 256, rounded up by a fifth or more: affinities (three channels),
# fragments with their entry tables, edge and node tables, merge tree, labels.
BYTES_PER_VOXEL: Mapping[str, float] = {
    "affinities": 1.8, "fragments": 0.35, "edges": 0.1, "agglomeration": 0.03, "lookup": 0.01, "relabel": 0.55,
    "pyramid": 0.55,
}  # fmt: skip


def bytes_of_run(voxels: int) -> float:
    """Return about how many bytes a whole run of that many voxels writes; a pyramid has a seventh of their number."""
    return voxels * sum(size / 7 if name == "pyramid" else size for name, size in BYTES_PER_VOXEL.items())


def needed_bytes(workspace: Workspace, stages: Sequence[Stage]) -> dict[str, float]:
    """Return about how many bytes each stage has yet to write, by the name of the stage."""
    needed: dict[str, float] = {}
    for stage in stages:
        name = stage.name.split("-")[0]
        per_voxel = BYTES_PER_VOXEL.get(name, 0.0)
        left = _share_left(workspace, stage) if per_voxel else 0.0
        if left:
            needed[name] = needed.get(name, 0.0) + per_voxel * left * stage.lattice.roi.size
    return needed


def _share_left(workspace: Workspace, stage: Stage) -> float:
    """Return which part of a stage is not done, from the number of its marks: quick for any number of blocks."""
    ledger = workspace.ledger(stage.name, stage.identity, stage.scope)
    done = len(ledger.done()) if ledger.is_same() else 0
    return max(0.0, 1 - done / len(stage.lattice.indices()))

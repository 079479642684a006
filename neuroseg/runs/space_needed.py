"""What a run will write: estimates, before it begins, from what real runs wrote per voxel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from neuroseg.geometry import whole
from neuroseg.runs.streaming import blocks_held
from neuroseg.stage import Stage
from neuroseg.storage.workspace import Workspace

# Bytes per voxel of FIB-25 at 10 nm, blocks of 64 to 256, rounded up by a fifth or more: affinities (three channels),
# provisional fragments with their entry tables, fragments with edge and node tables, merge tree, labels.
BYTES_PER_VOXEL: Mapping[str, float] = {
    "affinities": 1.8, "fragments": 0.35, "edges": 0.45, "reduction": 0.15, "agglomeration": 0.03, "lookup": 0.01,
    "relabel": 0.55, "pyramid": 0.55,
}  # fmt: skip


def bytes_of_run(voxels: int) -> float:
    """Return about how many bytes a whole run of that many voxels writes; a pyramid has a seventh of their number."""
    return voxels * sum(size / 7 if name == "pyramid" else size for name, size in BYTES_PER_VOXEL.items())


def needed_bytes(
    workspace: Workspace, stages: Sequence[Stage], channels: int, *, stream: bool = False
) -> dict[str, float]:
    """Return about how many bytes each stage has yet to write, by its name, for affinities of that many channels.

    With `stream`, of affinities those that are held at a time.
    """
    needed: dict[str, float] = {}
    for stage in stages:
        name = stage.name.split("-")[0]
        per_voxel = BYTES_PER_VOXEL.get(name, 0.0) * (channels / 3 if name == "affinities" else 1)
        left = _voxels_left(workspace, stage) if per_voxel else 0
        if stream and name == "affinities":
            left = min(left, blocks_held(stage.lattice) * math.prod(stage.lattice.block_shape))
        if left:
            needed[name] = needed.get(name, 0.0) + per_voxel * left
    return needed


def _voxels_left(workspace: Workspace, stage: Stage) -> int:
    """Return the voxels of the blocks that are not done; blocks outside a mask are none of them."""
    ledger, lattice = workspace.ledger(stage.name, stage.identity, stage.scope), stage.lattice
    is_new = not ledger.is_same() or not ledger.done()
    if is_new and lattice.wanted is None:
        return int(lattice.roi.intersect(whole(lattice.volume_shape)).size)
    blocks = list(lattice.blocks(stage.halo))
    return sum(block.voxels for block in (blocks if is_new else ledger.pending(blocks)))

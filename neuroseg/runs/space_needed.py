"""Estimate how many bytes a run will write, from the bytes per voxel of earlier runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from neuroseg.geometry import whole
from neuroseg.runs.streaming import blocks_held
from neuroseg.runs.temporary import is_temporary, most_at_a_time, readers_of
from neuroseg.stage import Stage
from neuroseg.storage.workspace import Workspace

# Bytes per voxel of FIB-25 at 10 nm, blocks of 64 to 256, rounded up by a fifth or more: affinities (three channels),
# provisional fragments with their entry tables, fragments with edge and node tables, merge tree, labels. A pyramid has
# one seventh of the voxels of its volume.
BYTES_PER_VOXEL: Mapping[str, float] = {
    "affinities": 1.8, "fragments": 0.35, "edges": 0.45, "agglomeration": 0.18, "lookup": 0.01,
    "relabel": 0.55, "pyramid": 0.08,
}  # fmt: skip


def bytes_of_run(voxels: int) -> float:
    """Return the estimated bytes of a whole run: the most at any time.

    `provisional.zarr` and `entries` are removed before the later stages write more than that.
    """
    return voxels * sum(size for stage, size in BYTES_PER_VOXEL.items() if stage != "fragments")


def needed_bytes(
    workspace: Workspace, stages: Sequence[Stage], channels: int, *, stream: bool = False
) -> dict[str, float]:
    """Return the estimated bytes that each stage still has to write, by name. `channels` is that of the affinities.

    The sum is the most that the disk holds at a time. So temporary artifacts count only as far as they exceed what is
    written after their removal. With `stream`, affinities count only as many blocks as exist at a time.
    """
    sizes: dict[str, float] = {}
    for stage in stages:
        name = stage.name.split("-")[0]
        per_voxel = BYTES_PER_VOXEL.get(name, 0.0) * (channels / 3 if name == "affinities" else 1)
        left = _voxels_left(workspace, stage) if per_voxel else 0
        if is_temporary(stage) and any(_voxels_left(workspace, reader) for reader in readers_of(stages, stage)):
            left += _voxels_released(workspace, stage)
        if stream and name == "affinities":
            left = min(left, blocks_held(stage.lattice) * math.prod(stage.lattice.block_shape))
        sizes[stage.name] = per_voxel * left
    again = sum(sizes.values()) - most_at_a_time(stages, sizes)  # written where temporary artifacts were
    needed: dict[str, float] = {}
    for stage in stages:
        name, size = stage.name.split("-")[0], sizes[stage.name] - (again if is_temporary(stage) else 0)
        if size > 0:
            needed[name] = needed.get(name, 0.0) + size
    return needed


def _voxels_released(workspace: Workspace, stage: Stage) -> int:
    """Return the number of voxels in blocks whose files were removed, and which must be computed again."""
    ledger = workspace.ledger(stage.name, stage.identity, stage.scope)
    return ledger.released_of(stage.lattice.blocks(stage.halo)).voxels if ledger.is_same() else 0


def _voxels_left(workspace: Workspace, stage: Stage) -> int:
    """Return the number of voxels in pending blocks. Blocks outside the mask do not count."""
    ledger, lattice = workspace.ledger(stage.name, stage.identity, stage.scope), stage.lattice
    is_new = not ledger.is_same() or not ledger.done_count()
    if is_new and lattice.wanted is None:
        return int(lattice.roi.intersect(whole(lattice.volume_shape)).size)
    blocks = lattice.blocks(stage.halo)
    return (blocks if is_new else ledger.pending(blocks)).voxels

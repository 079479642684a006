"""Measure prediction on some tiles of a block, and give the later stages affinities for all of its surroundings.

Prediction is the slowest stage, and a tile takes equally long everywhere. So a probe predicts only some tiles, and
fills the rest of its region with their mirror image, which has the same kind of fragments.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from funlib.geometry import Coordinate, Roi

from neuroseg.affinities.stage import AffinitiesStage
from neuroseg.blocks import Block
from neuroseg.geometry import Triple, describe, slices
from neuroseg.runs.measuring import Measured, Memory, index_at, opened, work_of
from neuroseg.runs.plan import Plan
from neuroseg.storage.arrays import open_array
from neuroseg.storage.workspace import Workspace

# A probe predicts as many tiles of a block as take about this long, twice.
_PREDICTION_S = 15.0
# A worker holds at least the affinities of two blocks: it writes one while it predicts the next.
_COPIES = 2


def measured_prediction(plan: Plan, block: Block, region: Roi, workspace: Workspace) -> Measured:
    """Predict tiles around the centre of the block, and fill the rest of the region with their mirror image."""
    # Without a mask, because it may exclude all of these tiles. Any device may measure: the result is not kept.
    plain = plan.model_copy(update={"normalise": "none", "predicted_mask": None, "device_identity": {}})

    def stage_of(roi: Roi) -> AffinitiesStage:
        return plain.model_copy(update={"roi": describe(roi)}).affinities_stage(workspace)

    (workspace.path / "ledger" / "affinities").mkdir(parents=True, exist_ok=True)
    stage = plain.affinities_stage(workspace)
    centre = [int(at) for at in block.write_roi.center]
    holder = stage.lattice.block(index_at(stage.lattice, centre)).write_roi
    tile = tiles_around(centre, stage.tile, 1, holder)
    memory = Memory()
    with opened(stage_of(tile), workspace) as (ready, opening):
        blocks = list(stage_of(tile).lattice.blocks())
        first, _ = ready.run(blocks)
        again, _ = ready.run(blocks)
        one_mib = memory.more_mib()
        tiles = max(1, int((_PREDICTION_S / max(again, 1e-3)) ** (1 / 3)))
        part = tiles_around(centre, stage.tile, tiles, holder)
        blocks = list(stage_of(part).lattice.blocks())
        seconds, stored = ready.run_twice(blocks)
    mirror(workspace, part.intersect(region), region)
    work = work_of(stage_of(part))
    return Measured(
        stage=stage.name,
        start_s=opening + max(0.0, first - again),
        seconds=seconds,
        work=int(np.prod([work(axis, part.begin[axis], part.end[axis]) for axis in range(3)])),
        size=int(part.size),
        stored=stored,
        # The network's own memory does not grow with the block.
        base_mib=memory.base_mib + one_mib,
        more_mib=max(memory.more_mib() - one_mib, _COPIES * len(plan.offsets) * int(part.size) // 2**20),
    )


def tiles_around(centre: Sequence[int], tile: Triple, count: int, bounds: Roi) -> Roi:
    """Return `count` tiles per axis around a voxel, moved inside `bounds` where possible and clipped to it."""
    begin, end = [], []
    for at, width, low, high in zip(centre, tile, bounds.begin, bounds.end, strict=True):
        first = at // width - (count - 1) // 2
        last = -(-int(high) // width) - count
        first = max(int(low) // width, min(first, last))
        begin.append(first * width)
        end.append((first + count) * width)
    return Roi(begin, Coordinate(end) - Coordinate(begin)).intersect(bounds)


def mirror(workspace: Workspace, known: Roi, region: Roi) -> None:
    """Fill `region` of the affinities with mirror images of its part `known`."""
    array = open_array(workspace.affinities, writable=True)
    missing = [
        (int(low - begin), int(end - high))
        for begin, end, low, high in zip(region.begin, region.end, known.begin, known.end, strict=True)
    ]
    values = np.asarray(array[(slice(None), *slices(known))])
    array[(slice(None), *slices(region))] = np.pad(values, [(0, 0), *missing], mode="symmetric")

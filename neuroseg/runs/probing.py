"""Measure the real stages on one block of a volume and its surroundings, in a process of its own.

    |<- surroundings ->|<---- block ---->|<- surroundings ->|     the region of the probe, in a temporary workspace

All blocks in the region are processed, so that the counted block reads its complete halo and finds its neighbours. Only
the counted block is measured. Before it, each stage processes a small part twice: the difference is what a worker needs
to load kernels and the network.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from funlib.geometry import Roi

from neuroseg.affinities.sections import section_histograms
from neuroseg.blocks import Block
from neuroseg.execution.block import device_in_use, own_host
from neuroseg.geometry import describe, grown, parse_roi
from neuroseg.runs.measuring import Measured, Memory, Probe, index_at, opened, seconds_since_start
from neuroseg.runs.plan import Plan
from neuroseg.runs.probed_prediction import measured_prediction
from neuroseg.stage import Stage
from neuroseg.storage.parts import map_lookup, read_parts, write_lookup
from neuroseg.storage.workspace import Workspace
from neuroseg.tables import EDGES, combined

# The stages that process tables of the whole region. Their work is counted in edges.
_OF_TABLES = ("agglomeration", "lookup")


def is_of_tables(stage: Stage) -> bool:
    """Return whether a stage processes tables of the whole region."""
    return stage.name.split("-")[0] in _OF_TABLES


def probe_block(plan: Plan, index: int, folder: Path) -> Probe:
    """Return the measurements of all stages at one block of the plan's lattice. `folder` is for the files.

    Raises NeurosegError if a stage fails.
    """
    start_s = seconds_since_start()
    workspace = Workspace(folder)
    block = plan.lattice.block(index)
    region = _region_around(plan, block, workspace)
    small = plan.model_copy(update={"roi": describe(region)})
    stages = small.segmentation_stages(workspace)
    measured = []
    if plan.kind == "raw":
        if plan.normalise == "sections":
            measured.append(_measured_sections(plan, block))
        measured.append(measured_prediction(plan, block, region, workspace))
    edges = None
    for stage in stages:
        if not is_of_tables(stage):
            if stage.name == "relabel":
                _spread_ids(workspace, parse_roi(plan.roi, plan.shape).size // region.size)
            measured.append(_measured_in_space(stage, block, workspace))
            continue
        edges = edges_in(small, workspace, block) if edges is None else edges
        measured.append(_measured_tables(stage, workspace, edges[1]))
    assert edges is not None
    return Probe(
        block=index, voxels=block.voxels, edges=edges[0], stages=tuple(measured),
        host=own_host(), device=device_in_use(), start_s=start_s,
    )  # fmt: skip


def _region_around(plan: Plan, block: Block, workspace: Workspace) -> Roi:
    """Return the block with everything that the stages read around it, inside the region of the run."""
    fragments, edges = plan.segmentation_stages(workspace)[:2]
    reach = [a + b for a, b in zip(fragments.halo, edges.halo, strict=True)]
    return grown(block.write_roi, reach, parse_roi(plan.roi, plan.shape))


def _measured_in_space(stage: Stage, around: Block, workspace: Workspace) -> Measured:
    """Process all blocks of the region, and measure the one that contains the centre of the counted block."""
    lattice = stage.lattice
    counted = lattice.block(index_at(lattice, around.write_roi.center), stage.halo)
    others = sorted(
        (block for block in lattice.blocks(stage.halo) if block.index != counted.index), key=lambda block: block.voxels
    )
    memory = Memory()
    with opened(stage, workspace) as (ready, opening):
        small = others[:1] or [counted]
        first, _ = ready.run(small)
        again, _ = ready.run(small)
        seconds, stored = ready.run_twice([counted])
        more = memory.more_mib()
        ready.run(others[1:])
    return Measured(
        stage=stage.name,
        start_s=opening + max(0.0, first - again),
        seconds=seconds,
        work=counted.read_roi.size,
        size=counted.voxels,
        stored=stored,
        base_mib=memory.base_mib,
        more_mib=more,
    )


def _measured_tables(stage: Stage, workspace: Workspace, edges: int) -> Measured:
    """Process the tables of the region twice, and measure the second time."""
    blocks, memory = list(stage.lattice.blocks(stage.halo)), Memory()
    with opened(stage, workspace) as (ready, opening):
        first, _ = ready.run(blocks)
        seconds, stored = ready.run(blocks)
    return Measured(
        stage=stage.name,
        start_s=opening + max(0.0, first - seconds),
        seconds=seconds,
        work=edges,
        size=edges,
        stored=stored,
        base_mib=memory.base_mib,
        more_mib=memory.more_mib(),
    )


def _measured_sections(plan: Plan, block: Block) -> Measured:
    """Count the grey values of the block only: the stage reads whole sections, in boxes of the block shape."""
    read, memory = plan.raw_source().open(), Memory()
    began = time.monotonic()
    section_histograms(read(block.write_roi))
    return Measured(
        stage="sections",
        start_s=0.0,
        seconds=time.monotonic() - began,
        work=block.voxels,
        size=block.voxels,
        stored={},
        base_mib=memory.base_mib,
        more_mib=memory.more_mib(),
    )


def _spread_ids(workspace: Workspace, factor: int) -> None:
    """Multiply the ids of segments, so that they are as large as in a whole volume. zstd compresses small ids worse."""
    lookup = map_lookup(workspace.lookup)
    spread = {**lookup, "segment": lookup["segment"] * np.uint64(max(1, factor))}
    write_lookup(workspace.lookup, spread)


def edges_in(plan: Plan, workspace: Workspace, block: Block) -> tuple[int, int]:
    """Return the number of edges whose first fragment has its root in the block, and of all edges in the region.

    The name of a fragment is the index of its root + 1. So each edge of a volume is counted in exactly one block.
    """
    edges = combined(read_parts(workspace.edges, plan.lattice.indices(), EDGES), EDGES)
    roots = np.unravel_index(edges["u"].astype(np.int64) - 1, plan.shape)
    inside = np.ones(len(edges["u"]), bool)
    for at, (begin, end) in zip(roots, block.write_box, strict=True):
        inside &= (at >= begin) & (at < end)
    return int(inside.sum()), len(inside)

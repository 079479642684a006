"""Agglomerate simulated tables with the stages of a run, and measure them."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import zarr
from simulated_edges import CELL_VOXELS, EDGES_A_CELL, block_tables

from neuroseg.execution.block import ledger_of
from neuroseg.execution.cluster.site import NO_CLUSTER
from neuroseg.execution.task import silent
from neuroseg.geometry import triple
from neuroseg.runs.executors import Executors
from neuroseg.runs.options import Options
from neuroseg.runs.pending import pending_of
from neuroseg.runs.plan import Plan, write_plan
from neuroseg.runs.resolve import plan_of_run
from neuroseg.runs.stages import run_stages
from neuroseg.stage import Stage
from neuroseg.storage.parts import part_path, parts_in, read_part, write_table
from neuroseg.storage.workspace import Workspace
from neuroseg.tables import EDGES

_BLOCK = 256


def made(folder: Path, edges: int) -> tuple[Path, dict[str, Any]]:
    """Return the folder of a run with the tables of all blocks, and how large it is. Existing tables are kept."""
    cells = triple([round((edges / EDGES_A_CELL) ** (1 / 3))] * 3)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "empty.zarr").exists():
        shape = (3, *(count * CELL_VOXELS for count in cells))
        attributes = {"offsets": [[-1, 0, 0], [0, -1, 0], [0, 0, -1]], "voxel_size": [10, 10, 10]}
        chunks = (3, 64, 64, 64)
        zarr.create_array(str(folder / "empty.zarr"), shape=shape, dtype="u1", chunks=chunks, attributes=attributes)
    workspace, plan = planned(folder, 1)
    rows = 0
    for block in plan.lattice.blocks():
        path = part_path(workspace.edges, block.index)
        if not path.exists():
            found, nodes = block_tables(block, cells)
            write_table(part_path(workspace.nodes, block.index), nodes)
            write_table(path, found)
        rows += len(read_part(workspace.edges, block.index, {"u": EDGES["u"]})["u"])
    return folder, {
        "shape": list(plan.shape), "block_voxels": _BLOCK, "fragments": cells[0] ** 3, "rows_of_edges": rows,
        "blocks": len(plan.lattice.blocks()),
    }  # fmt: skip


def planned(folder: Path, workers: int, memory: str | None = None) -> tuple[Workspace, Plan]:
    """Return the workspace of a run in a folder, and its plan, which workers read."""
    given = {"affinities": str(folder / "empty.zarr"), "output": str(folder / "run.neuroseg"), "blocks": str(_BLOCK)}
    how = {"executor": "local", "workers": workers, "memory": memory, "force": True}
    options = Options.model_validate({**given, **how})
    workspace, plan, options = plan_of_run(options)
    workspace.path.mkdir(exist_ok=True)
    write_plan(workspace, plan, options)
    return workspace, plan


def measured(folder: Path, workers: int, memory: str | None) -> dict[str, Any]:
    """Agglomerate, and look up the segments of a threshold. Return times, rates and memory."""
    workspace, plan = planned(folder, workers, memory)
    for name in ("merges", "ledger"):
        shutil.rmtree(workspace.path / name, ignore_errors=True)
    every = plan.stages(workspace)
    merging = [stage for stage in every if stage.name.startswith("agglomeration")]
    lookup = [stage for stage in every if stage.name == "lookup"]
    seconds, peaks = [], []
    for stages in (merging, lookup):
        began = time.perf_counter()
        with Executors(workspace, plan, stages, NO_CLUSTER) as executors:
            run_stages(workspace, stages, [pending_of(workspace, stage) for stage in stages], executors.choose, silent)
        seconds.append(round(time.perf_counter() - began, 1))
        peaks.append(max(_peak_mib(workspace, stage) for stage in stages))
    rows = [rows_read(workspace, stage) for stage in merging]
    return {
        "workers": workers,
        "memory": memory,
        "seconds": seconds[0],
        "medges_per_s": round(rows[0] / seconds[0] / 1e6, 2),
        "worker_peak_mib": peaks[0],
        "rows_read_by_level": rows,
        "worker_seconds_by_level": [round(worker_seconds(workspace, stage), 1) for stage in merging],
        "lookup_seconds": seconds[1],
        "lookup_peak_mib": peaks[1],
    }


def worker_seconds(workspace: Workspace, stage: Stage) -> float:
    """Return the sum of the seconds that each block of a stage took."""
    return sum(float(record["seconds"]) for record in ledger_of(workspace, stage).records())


def _peak_mib(workspace: Workspace, stage: Stage) -> int:
    """Return the largest memory of a process that ran a stage."""
    return max(int(record["peak_mib"]) for record in ledger_of(workspace, stage).records())


def rows_read(workspace: Workspace, stage: Stage) -> int:
    """Return the rows of edges that the groups of a stage read."""
    tables = [name for name in stage.inputs if name.rpartition("/")[2] in ("edges", "open_edges", "open_regions")]
    files = [file for name in tables for file in parts_in(workspace.path / name).values()]
    return sum(pq.read_metadata(file).num_rows for file in files)

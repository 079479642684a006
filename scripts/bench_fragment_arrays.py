"""Measure one array of fragments instead of two: bytes that it saves, and time that it costs.

The stage `edges` reads provisional.zarr and writes fragments.zarr. Without fragments.zarr, every reader of fragments
would have to read provisional names and the entry tables, and to rename. This script measures both ways on the cube of
`scripts/bench`, in this process: bytes on disk, and the CPU time of one pass over the volume (medians).

    python scripts/bench FOLDER --raw fib25_unlabelled.h5:raw --only stages
    python scripts/bench_fragment_arrays.py FOLDER --blocks 128 64 --repeat 5
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from statistics import median

import fastremap
import numpy as np
from numpy.typing import NDArray

from neuroseg.blocks import Block
from neuroseg.edges.rename import Entries, final_names
from neuroseg.execution.serial import SerialExecutor
from neuroseg.execution.task import silent
from neuroseg.geometry import slices
from neuroseg.runs import pipeline
from neuroseg.runs.damage import recompute_far_inputs
from neuroseg.runs.options import Options
from neuroseg.runs.plan import read_plan
from neuroseg.segmentation.relabel import relabelled
from neuroseg.storage.arrays import create_array, open_array, use_threads, write_region
from neuroseg.storage.parts import map_lookup, read_part
from neuroseg.storage.trees import bytes_at, remove_all
from neuroseg.storage.workspace import Workspace
from neuroseg.tables import ENTRIES, looked_up

_CACHED_TABLES = 32  # as in the stage `edges`

Labels = NDArray[np.uint64]
Way = Callable[[Block], Labels | None]


def segmented(affinities: Path, folder: Path, block: int) -> Workspace:
    """Return a workspace with both arrays. A run removes provisional.zarr and entries, so they are computed again."""
    shutil.rmtree(folder, ignore_errors=True)
    given = {"affinities": str(affinities), "output": str(folder), "blocks": str(block), "executor": "serial"}
    workspace, _ = pipeline.segment(Options.model_validate(given))
    every = read_plan(workspace).stages(workspace)
    edges = next(stage for stage in every if stage.name == "edges")
    recompute_far_inputs(workspace, every, edges, lambda tasks: SerialExecutor(), silent)
    return workspace


def ways(workspace: Workspace) -> Mapping[str, Way]:
    """Return the functions to compare. Each processes one block."""
    lattice, lookup = read_plan(workspace).lattice, map_lookup(workspace.lookup)
    provisional, fragments = open_array(workspace.provisional), open_array(workspace.fragments)
    place = workspace.artifact("copy.zarr")
    remove_all(place)
    create_array(place, shape=lattice.volume_shape, dtype=np.uint64, block=lattice.block_shape, attributes={})
    copy, held = open_array(place, writable=True), np.asarray(fragments[:])

    @lru_cache(maxsize=_CACHED_TABLES)
    def entries_of(block: int) -> Entries:
        table = read_part(workspace.entries, block, ENTRIES)
        return table["voxel"], table["name"]

    def write(block: Block) -> None:
        write_region(copy, block.write_roi, held[slices(block.write_roi)])

    def from_final(block: Block) -> Labels:
        return relabelled(np.asarray(fragments[slices(block.write_roi)]), lookup)

    def from_provisional(block: Block) -> Labels:
        names = np.asarray(provisional[slices(block.write_roi)])
        ids = fastremap.unique(names)
        segments = looked_up(final_names(ids, lattice, entries_of), lookup)
        out: Labels = fastremap.remap(names, dict(zip(ids.tolist(), segments.tolist(), strict=True)), in_place=False)
        return out

    return {
        "edges: write fragments.zarr": write,
        "relabel: read fragments.zarr": from_final,
        "relabel: read provisional.zarr, rename": from_provisional,
    }


def main() -> None:
    """Print one table per block size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder of scripts/bench")
    parser.add_argument("--edge", type=int, default=250, help="edge of the cube")
    parser.add_argument("--blocks", type=int, nargs="+", default=[128, 64])
    parser.add_argument("--repeat", type=int, default=5)
    given = parser.parse_args()
    use_threads(1)
    for size in given.blocks:
        affinities = given.folder / f"cube{given.edge}.neuroseg" / "affinities.zarr"
        workspace = segmented(affinities, given.folder / f"arrays-{size}.neuroseg", size)
        blocks = list(read_plan(workspace).lattice.blocks())
        voxels = sum(block.voxels for block in blocks)
        print(f"blocks {size}, {voxels / 1e6:.1f} Mvoxel")
        for name in ("provisional.zarr", "entries", "fragments.zarr"):
            print(f"  {name:42} {bytes_at(workspace.artifact(name)) / voxels:.3f} bytes a voxel")
        seconds: dict[str, list[float]] = {}
        made: dict[str, list[Labels | None]] = {}
        for _ in range(given.repeat + 1):
            for name, way in ways(workspace).items():
                begun = time.process_time()
                made[name] = [way(block) for block in blocks]
                seconds.setdefault(name, []).append(time.process_time() - begun)
        for name, times in seconds.items():
            print(f"  {name:42} {median(times[1:]):.2f} s")  # the first repetition compiles
        _, one, other = made.values()
        assert all(map(np.array_equal, one, other)), "both ways give the same labels"


if __name__ == "__main__":
    main()

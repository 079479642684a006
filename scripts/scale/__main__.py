"""Does the cost grow with the volume? Prints JSON.

    python scripts/scale agglomeration FOLDER [--edges 1e6 1e7] [--workers 1 2] [--memory 2G]
    python scripts/scale pipeline FOLDER --affinities A.zarr [--shapes 512,512,512 1024,1024,1024] [--blocks 128]

`agglomeration` agglomerates simulated tables of edges (simulated_edges.py) with the stages of a run. It needs about 40
bytes of disk for each edge. For each size and number of workers: seconds, edges per second, the largest memory of a
worker, and the rows that the groups of each level read.

`pipeline` segments affinities (at least 192 voxels along each axis) that are repeated up to a shape. It needs about 2
bytes of disk for each voxel. For each shape: seconds, rate, memory of the head and of a worker, files.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from agglomeration import made, measured  # the modules beside this file
from pipeline import repeated, segmented


def main() -> None:
    """Measure and print the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("agglomeration", "pipeline"))
    parser.add_argument("folder", type=Path, help="folder for tables, arrays and workspaces")
    parser.add_argument("--edges", type=float, nargs="+", default=[1e6, 1e7], help="numbers of edges (default 1e6 1e7)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="numbers of workers (default 1 2)")
    parser.add_argument("--memory", help="as for neuroseg run")
    parser.add_argument("--affinities", type=Path, help="array (c, z, y, x) of affinities")
    parser.add_argument("--shapes", nargs="+", default=["512,512,512", "1024,1024,1024"], help="multiples of 64 voxels")
    parser.add_argument("--blocks", type=int, default=128, help="block shape in voxels (default 128)")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    rows = _agglomerated(given) if given.what == "agglomeration" else _segmented(given)
    print(json.dumps(rows, indent=1))


def _agglomerated(given: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for edges in given.edges:
        folder, counts = made(given.folder.resolve() / f"{edges:g}", int(edges))
        for workers in given.workers:
            # A new process for each measurement, because the memory of the head is measured.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                rows.append({**counts, **process.submit(measured, folder, workers, given.memory).result()})
    return rows


def _segmented(given: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for text in given.shapes:
        z, y, x = (int(part) for part in text.split(","))
        affinities = repeated(given.affinities, given.folder.resolve(), (z, y, x))
        workspace = given.folder.resolve() / "run.neuroseg"
        rows += [segmented(affinities, workspace, given.blocks, workers) for workers in given.workers]
    return rows


if __name__ == "__main__":
    main()

"""Does the cost grow with the volume? Prints JSON.

    python scripts/scale agglomeration FOLDER [--edges 1e6 1e7] [--workers 1 2] [--memory 2G]
    python scripts/scale pipeline FOLDER --affinities A.zarr [--shapes 512,512,512 1024,1024,1024] [--blocks 128]
    python scripts/scale pipeline FOLDER --raw RAW.zarr --shapes 128,192,192 [--blocks 128]
    python scripts/scale model MEASURED.json ... [--plot FIGURE.png] [--page PAGE.md]

`agglomeration` agglomerates simulated tables of edges (simulated_edges.py) with the stages of a run. It needs about 40
bytes of disk for each edge. For each size and number of workers: seconds, edges per second, the largest memory of a
worker, and the rows that the groups of each level read.

`pipeline` segments affinities (at least 192 voxels along each axis) that are repeated up to a shape, or predicts and
segments a part of a raw volume. For each shape: seconds, rate, memory of the head and of a worker, files, bytes, rows.

`model` computes the needs of large volumes from what the two others printed, and from what scripts/bench_schedulers.py
and scripts/bench_head.py printed: time, disk, files and memory, and which limit is reached first.
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
from growth_figure import draw_growth
from growth_model import modelled
from growth_page import with_tables
from pipeline import repeated, segmented
from volume_limits import Machine

Rows = list[dict[str, Any]]


def main() -> None:
    """Measure or compute, and print the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(required=True)
    tables = _measuring(modes.add_parser("agglomeration"))
    tables.add_argument("--edges", type=float, nargs="+", default=[1e6, 1e7], help="numbers of edges (default 1e6 1e7)")
    tables.add_argument("--memory", help="as for neuroseg run")
    tables.set_defaults(run=_agglomerated)
    pipeline = _measuring(modes.add_parser("pipeline"))
    source = pipeline.add_mutually_exclusive_group(required=True)
    source.add_argument("--affinities", type=Path, help="array (c, z, y, x) of affinities")
    source.add_argument("--raw", type=Path, help="raw volume, of which a part is predicted")
    pipeline.add_argument(
        "--shapes", nargs="+", default=["512,512,512", "1024,1024,1024"], help="multiples of 64 voxels"
    )
    pipeline.add_argument("--blocks", type=int, default=128, help="block shape in voxels (default 128)")
    pipeline.set_defaults(run=_segmented)
    model = modes.add_parser("model")
    model.add_argument("measured", type=Path, nargs="+", help="files with the JSON of the other modes")
    model.add_argument("--worker-gib", type=float, default=64, help="memory of a worker and of the head (default 64)")
    model.add_argument("--days", type=float, default=30, help="longest time of a run (default 30)")
    model.add_argument("--plot", type=Path, help="draw this PNG")
    model.add_argument("--page", type=Path, help="replace the tables in this page")
    model.set_defaults(run=_modelled)
    given = parser.parse_args()
    print(json.dumps(given.run(given), indent=1))


def _measuring(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("folder", type=Path, help="folder for tables, arrays and workspaces")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="numbers of workers (default 1 2)")
    return parser


def _agglomerated(given: argparse.Namespace) -> Rows:
    rows = []
    for edges in given.edges:
        folder, counts = made(given.folder.resolve() / f"{edges:g}", int(edges))
        for workers in given.workers:
            # A new process for each measurement, because the memory of the head is measured.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                rows.append({**counts, **process.submit(measured, folder, workers, given.memory).result()})
    return rows


def _segmented(given: argparse.Namespace) -> Rows:
    rows, kind = [], "raw" if given.raw else "affinities"
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for text in given.shapes:
        z, y, x = (int(part) for part in text.split(","))
        volume = given.raw or repeated(given.affinities, folder, (z, y, x))
        workspace = folder / "run.neuroseg"
        rows += [segmented(volume, kind, (z, y, x), workspace, given.blocks, workers) for workers in given.workers]
    return rows


def _modelled(given: argparse.Namespace) -> dict[str, Any]:
    rows = [row for file in given.measured for row in json.loads(file.read_text())]
    result = modelled(rows, Machine(given.worker_gib, given.days))
    if given.plot:
        draw_growth(given.plot, result)
    if given.page:
        given.page.write_text(with_tables(given.page.read_text(), result))
    return result


if __name__ == "__main__":
    main()

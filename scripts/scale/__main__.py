"""Does the cost grow with the volume? Prints JSON.

    python scripts/scale FOLDER [--edges 1e6 1e7] [--workers 1 2]

Agglomerates simulated tables of edges (simulated_edges.py) with the stages of a run. Needs about 40 bytes of disk for
each edge. For each size and number of workers: seconds, edges per second, the largest memory of a worker, and the rows
that the groups of each level read.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from agglomeration import made, measured  # the module beside this file


def main() -> None:
    """Measure and print the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder for the tables")
    parser.add_argument("--edges", type=float, nargs="+", default=[1e6, 1e7], help="numbers of edges (default 1e6 1e7)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="numbers of workers (default 1 2)")
    given = parser.parse_args()
    rows = []
    for edges in given.edges:
        folder, counts = made(given.folder.resolve() / f"{edges:g}", int(edges))
        for workers in given.workers:
            # A process of its own: the memory of the head counts, too.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                rows.append({**counts, **process.submit(measured, folder, workers).result()})
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()

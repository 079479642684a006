"""Benchmarks: `python scripts/bench FOLDER --raw FILE.h5:DATASET` prints a table. With --json F, it also writes JSON.

All measurements run on one core (--cores N for more). FOLDER keeps what is expensive to recompute: the affinities of
the cube and volara's environment. Each measurement is repeated, and the medians are printed.

    machine      memory copy, encoding and decoding of the stored arrays: the upper limit of this machine
    stages       affinities zarr -> segmentation zarr, each stage in one process: rate, bytes read and written
    end-to-end   the same with the command `neuroseg segment`, including its start; start time of the workers
    memory       peak memory of a worker on the cube and on eight cubes
    baseline     seeded watershed + waterz, in memory
    volara       volara 1.0.5 in its own environment
    prediction   `neuroseg predict` compared with only the network on the same tiles
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import baseline
import commands
import cube
import machine
import prediction
import rivals
import stages
from report import Row, print_table, with_ratios

BLOCKS = (128, 64)
PARTS: dict[str, Callable[[cube.Cube, int], list[Row]]] = {
    "machine": machine.measure,
    "stages": lambda data, repeat: [row for block in BLOCKS for row in stages.measure(data, block, repeat)],
    "end-to-end": lambda data, repeat: [row for block in BLOCKS for row in commands.measure(data, block, repeat)],
    "memory": commands.measure_memory,
    "baseline": baseline.measure,
    "volara": lambda data, repeat: [row for block in BLOCKS for row in rivals.measure(data, block, repeat)],
    "prediction": prediction.measure,
}


def main() -> None:
    """Measure the selected parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder for the cube, results and volara's environment")
    parser.add_argument("--raw", help="FILE.h5:DATASET of the raw volume; needed in the first run")
    parser.add_argument("--edge", type=int, default=250, help="edge of the cube in voxels (default 250)")
    parts = ",".join(PARTS)
    parser.add_argument("--only", default=parts, help=f"parts to measure, comma separated (default {parts})")
    parser.add_argument("--repeat", type=int, default=3, help="number of repetitions (default 3)")
    parser.add_argument("--cores", type=int, default=1, help="number of cores (default 1)")
    parser.add_argument("--json", type=Path, help="write all rows to this JSON file")
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    if unknown := set(names) - set(PARTS):
        parser.error(f"unknown parts {sorted(unknown)}; valid: {', '.join(PARTS)}")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])
    data = cube.prepared(arguments.folder.resolve(), arguments.raw, arguments.edge, arguments.cores)
    rows: list[Row] = []
    for name in names:
        print(f"measuring {name}", file=sys.stderr, flush=True)
        rows += PARTS[name](data, arguments.repeat)
    rows = with_ratios(rows)
    print_table(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps([row.as_dict() for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Benchmarks: `python scripts/bench FOLDER --raw FILE.h5:DATASET` prints one table, and with --json F one JSON file.

Everything runs on the first allowed core alone (--cores N for more), in FOLDER, which keeps what is expensive: the
affinities of the cube and volara's environment. Each measurement is repeated; numbers are medians.

    machine      memory copy, encoding and decoding of the stored arrays: what this machine could do at best
    stages       affinities zarr -> segmentation zarr, stage by stage in one process: rate, bytes moved, peak memory
    end-to-end   the same by the command `neuroseg segment`, its start included; how long workers take to start
    memory       a worker's peak memory on the cube and on eight of it
    baseline     seeded watershed + waterz, in memory
    volara       volara 1.0.5 in an environment of its own
    prediction   `neuroseg predict` against the bare network on the same tiles
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
    """Measure the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where cube, results and volara's environment are kept")
    parser.add_argument("--raw", help="FILE.h5:DATASET of the raw volume; needed until FOLDER holds the cube")
    parser.add_argument("--edge", type=int, default=250, help="the cube's edge in voxels (default 250)")
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, comma separated (default {','.join(PARTS)})")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions (default 3)")
    parser.add_argument("--cores", type=int, default=1, help="cores to run on (default 1)")
    parser.add_argument("--json", type=Path, help="write all rows to this file")
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

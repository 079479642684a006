"""Measure the cost of scheduling: 17,136 empty blocks with each executor.

    python scripts/bench_schedulers.py FOLDER [--executors serial local slurm dask] [--json F]

Kasthuri15 (10747 x 12895 x 1850 voxels) has this number of blocks of 256 voxels. A command segments an empty volume of
as many small blocks. Its two workers only mark the blocks as done. Fragments and edges run concurrently. When both are
done, the command is interrupted. Prints the seconds until the first mark (including the start), the seconds per 1000
blocks after it, and the memory of the head.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import zarr

from neuroseg.storage.workspace import Workspace

CELLS = (24, 21, 34)
BLOCK = 16


def main() -> None:
    """Measure each executor and print the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder for the volume and the workspaces")
    parser.add_argument("--executors", nargs="+", default=["serial", "local", "slurm", "dask"])
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    given = parser.parse_args()
    folder = given.folder.resolve()
    volume = folder / "empty.zarr"
    if not volume.exists():
        shape = (3, *(cells * BLOCK for cells in CELLS))
        attributes = {"offsets": [[-1, 0, 0], [0, -1, 0], [0, 0, -1]], "voxel_size": [10, 10, 10]}
        zarr.create_array(str(volume), shape=shape, dtype="u1", chunks=(3, 64, 64, 64), attributes=attributes)
    rows = [measured(volume, folder / f"{executor}.neuroseg", executor) for executor in given.executors]
    text = json.dumps(rows, indent=1)
    print(text)
    if given.json:
        given.json.write_text(text + "\n")


def measured(volume: Path, workspace: Path, executor: str) -> dict[str, object]:
    """Run fragments and edges with one executor. Return its times and memory."""
    shutil.rmtree(workspace, ignore_errors=True)
    count = int(np.prod(CELLS))
    ledgers = [Workspace(workspace).ledger(stage, {}) for stage in ("fragments", "edges")]
    command = [
        sys.executable,
        "-m",
        "neuroseg",
        "segment",
        "--affinities",
        str(volume),
        "--workers",
        "2",
    ]
    command += ["-o", str(workspace), "--blocks", str(BLOCK), "--executor", executor, "--force"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent / "idle_blocks"), "IDLE_BLOCKS": "1"}
    began, peak = time.time(), 0
    run = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while run.poll() is None and not all(len(ledger.done()) >= count for ledger in ledgers):
        for head in psutil.Process(run.pid).children():
            peak = max(peak, head.memory_info().rss)
        time.sleep(0.5)
    times = sorted(record["time"] for ledger in ledgers for record in ledger.records())
    run.send_signal(signal.SIGINT)
    run.wait()
    shutil.rmtree(workspace)
    return {
        "executor": executor,
        "blocks": len(times),
        "seconds_to_the_first": round(times[0] - began, 2),
        "seconds_per_1000_blocks": round(1000 * (times[-1] - times[0]) / len(times), 2),
        "head_peak_mib": round(peak / 2**20),
    }


if __name__ == "__main__":
    main()

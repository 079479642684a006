"""Measure the cost of scheduling: 17,136 empty blocks with each executor.

    python scripts/bench_schedulers.py FOLDER [--executors serial local slurm dask] [--json F]

Kasthuri15 (10747 x 12895 x 1850 voxels) has this number of blocks of 256 voxels. A command segments an empty volume of
as many small blocks. Its two workers do nothing for a block. First, fragments and edges run concurrently. When both are
done, the command is interrupted, and a second one computes only edges. Prints the seconds until the first block
is done (including the start), the seconds per 1000 blocks after it, and the memory of the head.
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
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
import zarr

from neuroseg.execution.block import ledger_of
from neuroseg.runs.pipeline import workspace_at
from neuroseg.storage.workspace import Workspace

CELLS = (24, 21, 34)
BLOCKS = int(np.prod(CELLS))
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
    rows = [row for executor in given.executors for row in measured(volume, folder / f"{executor}.neuroseg", executor)]
    text = json.dumps(rows, indent=1)
    print(text)
    if given.json:
        given.json.write_text(text + "\n")


def measured(volume: Path, workspace: Path, executor: str) -> Iterator[dict[str, object]]:
    """Run fragments and edges together, then only edges, with one executor. Yield the times and memory of each."""
    shutil.rmtree(workspace, ignore_errors=True)
    both = ["--affinities", str(volume), "-o", str(workspace), "--blocks", str(BLOCK), "--workers", "2", "--force"]
    yield interrupted([*both, "--executor", executor], workspace, executor, ("fragments", "edges"))
    _fragments_only(workspace)
    yield interrupted([str(workspace), "--executor", executor], workspace, executor, ("edges",))
    shutil.rmtree(workspace)


def _fragments_only(folder: Path) -> None:
    """Mark all blocks of fragments done, and none of edges. The first run may have removed the fragments after use."""
    workspace, plan = workspace_at(str(folder))
    stage = plan.stage(workspace, "fragments")
    stage.prepare()
    workspace.artifact("entries").mkdir(exist_ok=True)  # the idle blocks write no part of this table
    ledger = ledger_of(workspace, stage)
    for block in stage.lattice.blocks(stage.halo):
        ledger.mark_done(block, {})
    workspace.ledger("edges", {}).forget()


def interrupted(options: list[str], workspace: Path, executor: str, stages: Sequence[str]) -> dict[str, object]:
    """Run `segment` until some stages are done. Return the times and the memory of its head."""
    began, peak = time.time(), 0
    ledgers = [Workspace(workspace).ledger(stage, {}) for stage in stages]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent / "idle_blocks"), "IDLE_BLOCKS": "1"}
    command = [sys.executable, "-m", "neuroseg", "segment", *options]
    run = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while run.poll() is None and any(len(ledger.done()) < BLOCKS for ledger in ledgers):
        for head in psutil.Process(run.pid).children():
            peak = max(peak, head.memory_info().rss)
        time.sleep(0.5)
    times = sorted(record["time"] for ledger in ledgers for record in ledger.records())
    run.send_signal(signal.SIGINT)
    run.wait()
    return {
        "executor": executor,
        "stages": "+".join(stages),
        "blocks": len(times),
        "seconds_to_the_first": round(times[0] - began, 2),
        "seconds_per_1000_blocks": round(1000 * (times[-1] - times[0]) / len(times), 2),
        "head_peak_mib": round(peak / 2**20),
    }


if __name__ == "__main__":
    main()

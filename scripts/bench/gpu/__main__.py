"""GPU benchmark: `python scripts/bench/gpu FOLDER` prints JSON on stdout and a table on stderr.

It measures with synthetic data, within a common time limit. A part that fails is reported with its error, the others go
on, and the exit code is 1. FOLDER keeps the volumes, the models, results.json after each part, and trace.json.gz.

    bare network   forward passes of the network on its windows: rate, TFLOP/s, share of the peak of the GPU
    predict        `neuroseg predict` from zarr to zarr, compared with the bare network; parts of a block
    decode         decoding of raw, with one thread and with all
    trace          profile of one block: copies, synchronisations, longest kernels
    training       training steps of the superhuman network

On a CPU, the volume is small, and numbers that only a GPU has are null.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # report.py

import bare_network
import block_trace
import decoding
import training_speed
import zarr_to_zarr
from arms import Arm, run_arms
from gpu_machine import description
from report import Row, print_table
from subjects import prepared

from neuroseg.storage.arrays import use_threads
from neuroseg.storage.publish import publish_text

CENTRE, GAUSSIAN = "centre", "gaussian"
PREDICTIONS = (("light", CENTRE), ("superhuman", CENTRE), ("mala", CENTRE), ("superhuman", GAUSSIAN))
# The prediction comes last: it can use the time that the others leave.
ARMS = (
    *(
        Arm(bare_network.PART, f"{name}, {blend}", 1, partial(bare_network.measure, name=name, blend=blend))
        for name, blend in PREDICTIONS
    ),
    Arm(decoding.PART, "raw", 1, decoding.measure),
    Arm(block_trace.PART, "superhuman, centre", 3, partial(block_trace.measure, name="superhuman")),
    Arm(training_speed.PART, "superhuman", 6, training_speed.measure),
    *(
        Arm(zarr_to_zarr.PART, f"{name}, {blend}", 4, partial(zarr_to_zarr.measure, name=name, blend=blend))
        for name, blend in PREDICTIONS
    ),
)


def main() -> int:
    """Measure all parts and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder for volumes, models and results")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default auto)")
    parser.add_argument("--edge", type=int, help="edge of the volume in voxels (default 1024 on a GPU, 256 on a CPU)")
    parser.add_argument("--seconds", type=float, default=480, help="time limit of all parts (default 480)")
    arguments = parser.parse_args()
    began = time.monotonic()
    use_threads(1)  # as in a worker
    print("preparing volumes and models", file=sys.stderr, flush=True)
    bench = prepared(arguments.folder.resolve(), arguments.device, arguments.edge)
    machine = description(bench.device)

    def publish(rows: list[Row]) -> str:
        content = {
            "machine": machine,
            "device": str(bench.device),
            "edge_voxels": bench.edge,
            "block_voxels": bench.block,
            "seconds": round(time.monotonic() - began, 1),
            "rows": [row.as_dict() for row in rows],
        }
        text = json.dumps(content, indent=2)
        publish_text(bench.folder / "results.json", text + "\n")
        return text

    rows = run_arms(ARMS, bench, began + arguments.seconds, publish)
    print(publish(rows))
    print_table(rows, sys.stderr)
    return 1 if any(row.error for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())

"""Decoding of raw: regions of whole blocks without context, each read once."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from report import Row
from subjects import CHUNK, Bench

from neuroseg.blocks import Lattice
from neuroseg.geometry import whole

PART = "decode"


def measure(bench: Bench, seconds: float, rows: Sequence[Row]) -> list[Row]:
    """Return the rates with one thread and with a thread for each core. The system may have the files in memory."""
    cores = len(os.sched_getaffinity(0))
    return [_decoded(bench, threads, seconds / 2) for threads in sorted({1, cores})]


def _decoded(bench: Bench, threads: int, seconds: float) -> Row:
    width = -(-bench.block // CHUNK) * CHUNK  # no chunk is decoded for two regions
    lattice = Lattice(bench.shape, (width, width, width), whole(bench.shape))
    read = bench.source().open(lattice.block_shape, threads)
    voxels, blocks, began = 0, 0, time.perf_counter()
    for block in lattice.blocks():
        voxels, blocks = voxels + read(block.write_roi).size, blocks + 1
        if time.perf_counter() - began > seconds:
            break
    took = time.perf_counter() - began
    return Row(
        PART,
        f"threads {threads}",
        {
            "mvoxel_per_s": round(voxels / took / 1e6, 3),
            "threads": threads,
            "blocks": blocks,
            "seconds": round(took, 3),
        },
    )

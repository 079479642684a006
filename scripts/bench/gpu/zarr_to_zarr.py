"""`neuroseg predict` from zarr to zarr, compared with the bare network; and the parts of a block, one after the other.

A worker computes one block while it reads the next one and writes the last one. So the sum of the parts is longer than
a block takes in a run, and the longest part shows the limit.
"""

from __future__ import annotations

import itertools
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bare_network import rate_of
from funlib.geometry import Coordinate, Roi
from gpu_machine import free_memory, mean_between, sampled_utilisation
from numpy.typing import NDArray
from report import Row
from subjects import OFFSETS, Bench

from neuroseg.affinities.device import decoding_threads
from neuroseg.affinities.inference import Predictor
from neuroseg.affinities.predictors import open_predictor
from neuroseg.affinities.tiles import box_of_windows
from neuroseg.blocks import Lattice
from neuroseg.execution.block import ledger_of
from neuroseg.runs.pipeline import workspace_at
from neuroseg.storage.arrays import create_array, open_array, write_region

PART = "predict"
_STAGE = "affinities"
# At least two blocks, because the rate is measured after the first one.
_LEAST_BLOCKS = 2
# The share of the time for the parts of blocks, and the same for the blocks of the command. Its start needs the rest.
_SHARE_OF_TIME = 0.25
_MOST_PARTS, _END_S = 4, 20.0


def measure(bench: Bench, seconds: float, rows: Sequence[Row], *, name: str, blend: str) -> list[Row]:
    """Return the rate of the command and the times of the parts of a block."""
    began = time.monotonic()
    predictor = open_predictor(bench.bundle(name), bench.device, blend)
    lattice, bare = bench.lattice(predictor.settings), rate_of(rows, name, blend)
    parts = _parts_of_a_block(bench, predictor, lattice, seconds * _SHARE_OF_TIME)
    del predictor
    free_memory(bench.device)
    roi = some_blocks(lattice, int(seconds * _SHARE_OF_TIME / sum(parts.values())))
    left = began + seconds - time.monotonic()
    if left <= 0:
        raise TimeoutError(f"one block takes {sum(parts.values()):.0f} s, too long for this part; use more --seconds")
    values = _command(bench, name, blend, roi, left)
    rate = values["mvoxel_per_s_after_first_block"]
    values["ratio_to_bare_network"] = round(rate / bare, 4) if bare and rate else None
    return [Row(PART, f"{name}, {blend}", {**values, **parts})]


def _command(bench: Bench, name: str, blend: str, roi: Roi, timeout: float) -> dict[str, float | None]:
    """Return the results of the command: those that it prints, and the rate from its first block to its last one."""
    workspace = bench.folder / f"{name}-{blend}.neuroseg"
    shutil.rmtree(workspace, ignore_errors=True)
    box = ",".join(f"{begin}:{end}" for begin, end in zip(roi.begin, roi.end, strict=True))
    line = [sys.executable, "-m", "neuroseg", "predict", str(bench.raw), "-o", str(workspace)]
    line += ["--model", str(bench.bundle(name).path), "--blend", blend, "--device", bench.device_name]
    line += ["--blocks", str(bench.block), "--roi", box, "--workers", "1", "--json", "--no-report"]
    with sampled_utilisation(bench.device) as samples:
        printed = _output(line, timeout)
    stage = next(stage for stage in printed["stages"] if stage["stage"] == _STAGE)
    times, voxels = _ends_of_blocks(workspace)
    steady = times[-1] - times[0]
    shutil.rmtree(workspace)
    return {
        "mvoxel_per_s": stage["mvoxel_per_s"],
        "mvoxel_per_s_after_first_block": round(sum(voxels[1:]) / steady / 1e6, 5) if steady else None,
        "ratio_to_bare_network": None,
        "gpu_utilisation_percent": mean_between(samples, times[0], times[-1]),
        "blocks": stage["blocks"],
        "mvoxel": round(sum(voxels) / 1e6, 3),
        "seconds": stage["seconds"],
        "peak_mib": stage["peak_mib"],
    }


def _ends_of_blocks(workspace: Path) -> tuple[list[float], list[int]]:
    """Return when each block ended, ascending, and its voxels."""
    opened, plan = workspace_at(str(workspace))
    records = ledger_of(opened, plan.affinities_stage(opened)).records()
    records.sort(key=lambda record: record["time"])
    return [record["time"] for record in records], [record["voxels"] for record in records]


def _output(line: list[str], timeout: float) -> dict[str, Any]:
    """Return the JSON that a command prints. Raises RuntimeError if it fails, TimeoutError if it takes too long."""
    run = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        output, errors = run.communicate(timeout=timeout)
    except subprocess.TimeoutExpired as error:
        run.terminate()  # the command ends its workers
        try:
            run.communicate(timeout=_END_S)
        except subprocess.TimeoutExpired:
            run.kill()
            run.communicate()
        raise TimeoutError(f"neuroseg predict was ended after {timeout:.0f} s; use more --seconds") from error
    if run.returncode:
        raise RuntimeError(f"neuroseg predict exited with {run.returncode}: {errors[-2000:]}")
    found: dict[str, Any] = json.loads(output)
    return found


def some_blocks(lattice: Lattice, wanted: int) -> Roi:
    """Return a box of whole blocks at the origin, at most `wanted` of them, but at least two if the volume has two."""
    block, wanted = Coordinate(lattice.block_shape), max(_LEAST_BLOCKS, wanted)
    counts: list[int] = []
    for size in reversed([max(1, extent // width) for extent, width in zip(lattice.volume_shape, block, strict=True)]):
        counts.insert(0, min(size, max(1, wanted // int(np.prod(counts)) if counts else wanted)))
    return Roi((0, 0, 0), block * Coordinate(counts)).intersect(lattice.roi)


def _parts_of_a_block(bench: Bench, predictor: Predictor, lattice: Lattice, seconds: float) -> dict[str, float]:
    """Return the median seconds to read, compute and write a block, without the first one if there are several."""
    settings, path = predictor.settings, bench.folder / "parts.zarr"
    around = box_of_windows(settings.tiles(Roi((0, 0, 0), lattice.block_shape)), settings.context)
    read = bench.source().open(around.shape, decoding_threads(bench.device))
    shutil.rmtree(path, ignore_errors=True)
    create_array(path, shape=(len(OFFSETS), *bench.shape), dtype=np.uint8, block=lattice.block_shape, attributes={})
    output, reading = open_array(path, writable=True), 0.0

    def timed_read(roi: Roi) -> NDArray[np.uint8]:
        nonlocal reading
        began = time.perf_counter()
        values = read(roi)
        reading += time.perf_counter() - began
        return values

    taken: list[tuple[float, float, float]] = []
    end = time.monotonic() + seconds
    for block in itertools.islice(lattice.blocks(), _MOST_PARTS):
        reading, began = 0.0, time.perf_counter()
        affinities = predictor.predict(timed_read, bench.shape, block.write_roi)
        computed = time.perf_counter()
        write_region(output, block.write_roi, affinities)
        taken.append((reading, computed - began - reading, time.perf_counter() - computed))
        if time.monotonic() > end:
            break
    shutil.rmtree(path, ignore_errors=True)
    medians = (statistics.median(part) for part in zip(*(taken[1:] or taken), strict=True))
    return {f"block_{name}_s": round(each, 5) for name, each in zip(("read", "compute", "write"), medians, strict=True)}

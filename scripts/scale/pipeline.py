"""Segment a volume of any size that needs no disk, and measure the head and its workers.

The affinities of a small cube are repeated: every chunk of the large array is a link to one of the chunks of the cube.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import zarr
from agglomeration import rows_read, worker_seconds

from neuroseg.runs.plan import read_plan
from neuroseg.storage.arrays import open_array
from neuroseg.storage.parts import map_lookup
from neuroseg.storage.workspace import Workspace

Row = dict[str, Any]

_CHUNK = 64
# Folders of a workspace whose size does not grow with the volume, or only a little.
_NO_ARTIFACTS = ("ledger", "logs")
# Chunks of the cube along each axis.
_PERIOD = 3


def repeated(affinities: Path, folder: Path, shape: tuple[int, int, int]) -> Path:
    """Return an array (3, z, y, x) of the first 192^3 voxels of `affinities`, repeated. `shape`: multiples of 64."""
    place = folder / f"{'x'.join(map(str, shape))}.zarr"
    if place.exists():
        return place
    width = _CHUNK * _PERIOD
    cube = np.asarray(open_array(affinities)[:3, :width, :width, :width])
    attributes = {"offsets": [[-1, 0, 0], [0, -1, 0], [0, 0, -1]], "voxel_size": [10, 10, 10]}
    chunks = (3, _CHUNK, _CHUNK, _CHUNK)
    for path, size in ((folder / "cube.zarr", (width,) * 3), (place, shape)):
        shutil.rmtree(path, ignore_errors=True)
        array = zarr.create_array(str(path), shape=(3, *size), dtype="u1", chunks=chunks, attributes=attributes)
        if path != place:
            array[:] = cube
    for z, y, x in np.ndindex(*(size // _CHUNK for size in shape)):
        source = folder / "cube.zarr" / "c" / "0" / "/".join(str(at % _PERIOD) for at in (z, y, x))
        target = place / "c" / "0" / str(z) / str(y) / str(x)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, target)
    return place


def segmented(volume: Path, kind: str, shape: Sequence[int], workspace: Path, blocks: int, workers: int) -> Row:
    """Segment a part of a volume. Return seconds, rate, files, and the largest memory of the head and of a worker.

    `kind`: affinities or raw.
    """
    shutil.rmtree(workspace, ignore_errors=True)
    command = [sys.executable, "-m", "neuroseg", "segment", "--affinities", str(volume)]
    if kind == "raw":
        command = [sys.executable, "-m", "neuroseg", "run", str(volume)]
    command += ["--roi", ",".join(f"0:{size}" for size in shape), "-o", str(workspace)]
    command += ["--blocks", str(blocks), "--workers", str(workers), "--json", "--no-report"]
    began = time.perf_counter()
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    peak = [0]
    watching = threading.Thread(target=_watch, args=(run, peak))
    watching.start()
    output = run.communicate()[0]
    watching.join()
    seconds, stages = time.perf_counter() - began, json.loads(output)["stages"]
    voxels = math.prod(shape)
    count = max(int(stage["blocks"]) for stage in stages)
    sizes = [file.stat().st_size for file in workspace.rglob("*") if file.is_file()]
    return {
        "kind": kind,
        "shape": list(shape),
        "block_voxels": blocks,
        "mvoxel": round(voxels / 1e6),
        "blocks": count,
        "workers": workers,
        "seconds": round(seconds, 1),
        "mvoxel_per_s": round(voxels / seconds / 1e6, 2),
        "head_peak_mib": peak[0],
        "worker_peak_mib": max(int(stage["peak_mib"] or 0) for stage in stages),
        "files_a_block": round(len(sizes) / count, 2),
        "bytes_a_voxel": round(sum(sizes) / voxels, 2),
        "seconds_by_stage": {stage["stage"]: stage["seconds"] for stage in stages},
        "blocks_by_stage": {stage["stage"]: stage["blocks"] for stage in stages},
        **_stored(Workspace(workspace)),
    }


def _stored(workspace: Workspace) -> Row:
    """Return how long the blocks of each stage took, the size of each artifact, and the rows of tables."""
    plan = read_plan(workspace)
    stages = plan.stages(workspace)
    rows = [rows_read(workspace, stage) for stage in stages if stage.name.startswith("agglomeration")]
    return {
        "worker_seconds_by_stage": {stage.name: round(worker_seconds(workspace, stage), 2) for stage in stages},
        "artifacts": {
            place.name: _size_of(place)
            for place in sorted(workspace.path.iterdir())
            if place.is_dir() and place.name not in _NO_ARTIFACTS
        },
        "most_entries": max(len(folders) + len(files) for _, folders, files in os.walk(workspace.path)),
        "fragments": len(map_lookup(workspace.lookup)["fragment"]),
        "rows_of_edges": rows[0],
        "rows_read_by_level": rows,
    }


def _size_of(artifact: Path) -> dict[str, int]:
    """Return the files and bytes of an artifact, without the few files that describe an array."""
    files = [file for file in artifact.rglob("*") if file.is_file() and file.suffix != ".json"]
    return {"files": len(files), "bytes": sum(file.stat().st_size for file in files)}


def _watch(run: subprocess.Popen[bytes], peak: list[int]) -> None:
    """Record the largest memory of the head. The process that was started supervises it."""
    while run.poll() is None:
        try:
            process = psutil.Process(run.pid)
            heads = [
                process,
                *(each for each in process.children() if "neuroseg.workers" not in " ".join(each.cmdline())),
            ]
            peak[0] = max(peak[0], *(each.memory_info().rss >> 20 for each in heads))
        except psutil.Error:
            pass
        time.sleep(0.2)

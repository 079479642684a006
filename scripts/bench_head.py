"""Measure the head of a run at a large number of blocks: seconds and peak memory until the first block is handed out.

    python scripts/bench_head.py FOLDER [--blocks 100000 1000000] [--no-mask] [--json F]

Makes workspaces whose blocks are marked done without being computed, over an empty volume of tiny blocks. One has no
mask. In the other, the lattice has four times as many cells, and a mask selects a quarter of them. Measured commands:

    plan        plan: probes of up to three blocks, and the estimate
    fresh       segment: no block is done; until the first block is handed out
    resumed     segment: of each stage, one percent of the blocks is left; until the first block is handed out
    finished    segment: all blocks are done, nothing is left
    status      status
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import zarr

from neuroseg.execution.block import completed, ledger_of, record
from neuroseg.runs.options import Options
from neuroseg.runs.plan import Plan, write_plan
from neuroseg.runs.resolve import plan_of_run
from neuroseg.stage import Stage
from neuroseg.storage.marks import MarksFile, marks_file
from neuroseg.storage.parts import write_table
from neuroseg.storage.workspace import Workspace
from neuroseg.tables import LOOKUP, NODES, TREE, empty

BLOCK = 16
_OFFSETS = [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]
_OPTIONS = ("--force", "--executor", "serial", "--no-report")
# Runs a command and prints what it used. Linux counts the memory of the process that starts another one as that of the
# other one, so this must be a small process.
_MEASURE = """
import json, resource, subprocess, sys
code = subprocess.run([sys.executable, "-m", "neuroseg", *sys.argv[1:]], stdout=subprocess.DEVNULL).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
cpu = round(used.ru_utime + used.ru_stime, 2)  # the machine may be busy with other work
print(json.dumps({"cpu_seconds": cpu, "peak_mib": used.ru_maxrss // 1024, "exit": code}))
"""
_SHARE_INSIDE = 4  # one cell of this many is inside the mask
_LEFT = 100  # one block of this many is left of each stage in `resumed`


def main() -> None:
    """Measure each number of blocks and print the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder for the volumes and the workspaces")
    parser.add_argument("--blocks", nargs="+", type=int, default=[100_000, 1_000_000])
    parser.add_argument("--no-mask", action="store_true", help="measure only volumes without a mask")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    given = parser.parse_args()
    rows = []
    for blocks in given.blocks:
        for masked in (False,) if given.no_mask else (False, True):
            rows += measured(given.folder.resolve(), blocks, masked=masked)
    text = json.dumps(rows, indent=1)
    print(text)
    if given.json:
        given.json.write_text(text + "\n")


def measured(folder: Path, blocks: int, *, masked: bool) -> Iterator[dict[str, object]]:
    """Yield seconds and memory of each command over a volume with about this many blocks inside."""
    place = folder / f"{blocks}{'-mask' if masked else ''}"
    shutil.rmtree(place, ignore_errors=True)
    options = made_volume(place, blocks, masked=masked)
    for name in ("fresh", "finished"):
        workspace, plan, merged = plan_of_run(options(place / f"{name}.neuroseg"))
        workspace.path.mkdir(parents=True)
        write_plan(workspace, plan, merged)
    marked = marked_done(workspace, plan)
    done, fresh, left = (str(place / f"{name}.neuroseg") for name in ("finished", "fresh", "interrupted"))
    shutil.copytree(done, left)
    _unmark(Workspace(Path(left)), plan)
    about = {"blocks": marked, "mask": masked}
    yield about | {"command": "plan"} | timed(["plan", *_planned(options(place / "planned.neuroseg"))], idle="")
    yield about | {"command": "fresh"} | timed(["segment", fresh, *_OPTIONS])
    for command in ("finished", "finished again"):  # the first one publishes the segmentation
        yield about | {"command": command} | timed(["segment", done, *_OPTIONS])
    yield about | {"command": "status"} | timed(["status", done])
    yield about | {"command": "resumed"} | timed(["segment", left, *_OPTIONS])
    shutil.rmtree(place)


def _planned(options: Options) -> list[str]:
    """Return the options of a run as arguments of `plan`."""
    given = {"affinities": options.affinities, "mask": options.mask, "blocks": options.blocks, "output": options.output}
    named = [part for name, value in given.items() if value for part in (f"--{name}", str(value))]
    return [*named, "--executor", "serial", "--force"]


def _unmark(workspace: Workspace, plan: Plan) -> None:
    """Unmark one percent of the blocks of each stage."""
    for stage in plan.stages(workspace):
        ledger_of(workspace, stage).clear(stage.lattice.blocks(stage.halo)[::_LEFT])


def made_volume(place: Path, blocks: int, *, masked: bool):  # type: ignore[no-untyped-def]
    """Create empty affinities, and a mask if wanted. Return the function from a workspace to the options of a run."""
    edge = round((blocks * (_SHARE_INSIDE if masked else 1)) ** (1 / 3))
    attributes = {"offsets": _OFFSETS, "voxel_size": [10, 10, 10], "offset": [0, 0, 0]}
    volume, mask = place / "empty.zarr", place / "mask.zarr"
    shape = (3, *[edge * BLOCK] * 3)
    zarr.create_array(str(volume), shape=shape, dtype="u1", chunks=(3, 64, 64, 64), attributes=attributes)
    if masked:
        size = [10 * BLOCK / 2] * 3
        placed = {"voxel_size": size, "offset": [0, 0, 0]}
        inside = zarr.create_array(str(mask), shape=[2 * edge] * 3, dtype="u1", chunks=[64] * 3, attributes=placed)
        z, y, x = np.ogrid[: 2 * edge, : 2 * edge, : 2 * edge]
        inside[:] = (x + y + z) % (4 * _SHARE_INSIDE) == 0  # diagonal sheets, each about two blocks thick
    return lambda workspace: Options(
        affinities=str(volume), output=str(workspace), blocks=str(BLOCK), mask=str(mask) if masked else None, force=True
    )


@contextmanager
def buffered(marks: MarksFile) -> Iterator[None]:
    """Append to a file of marks without opening it each time: for millions of marks, that takes minutes."""
    with marks.path.open("ab") as file:
        marks._write = lambda line, *more, **named: file.write(line)  # type: ignore[method-assign]
        yield
    del marks._write


def marked_done(workspace: Workspace, plan: Plan) -> int:
    """Mark each block of each stage done. Return the number of blocks of the first stage."""
    stages = plan.stages(workspace)
    for stage in stages:
        ledger = ledger_of(workspace, stage)
        ledger.claim()
        stage.prepare()
        _make_tables(workspace, stage)
        outcome = None
        with buffered(marks_file(ledger.folder / "marks")):
            for block in stage.lattice.blocks(stage.halo):
                outcome = outcome or completed(block, stage, workspace, time.monotonic())  # the same for each block
                ledger.mark_begun(block)
                record(outcome, block, ledger)
        ledger.verify()
        ledger.end()
    return len(stages[0].lattice.blocks())


def _make_tables(workspace: Workspace, stage: Stage) -> None:
    """Create what a stage would write, without content: empty folders for tables, empty files for single tables."""
    for name in stage.outputs:
        place = Path(str(workspace.artifact(name)))
        if place.suffix == ".npy":
            place.parent.mkdir(parents=True, exist_ok=True)
            np.save(place, np.zeros((len(LOOKUP), 0), np.uint64))
        elif place.suffix == ".parquet":
            write_table(place, empty(NODES if "nodes" in name else TREE))
        else:
            place.mkdir(parents=True, exist_ok=True)


def timed(arguments: Sequence[str], idle: str = "first") -> dict[str, object]:
    """Run a command until it ends or hands out its first block. Return its exit code, seconds and peak memory.

    With an empty `idle`, blocks are processed.
    """
    environment = {
        **os.environ, "PYTHONPATH": str(Path(__file__).parent / "idle_blocks"), "IDLE_BLOCKS": idle,
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    began = time.monotonic()
    run = subprocess.run(
        [sys.executable, "-c", _MEASURE, *arguments], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    seconds, found = time.monotonic() - began, json.loads(run.stdout)
    return {"seconds": round(seconds, 2), **found}


if __name__ == "__main__":
    main()

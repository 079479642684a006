"""Segment a volume on this machine, on SLURM and on Dask, with and without faults, and compare all artifacts.

    python scripts/try_clusters.py FOLDER --volume V.zarr [--blocks 64] [--arms ...] [--json F]

The arms are:

    slurm               no faults
    slurm_disturbed     during prediction and segmentation, cancel a job, requeue a job, and drain a node for a while
    slurm_interrupted   Ctrl-C; after a minute no job may remain; then the same command again
    slurm_killed        the same with SIGKILL of the head
    dask                a new scheduler with two workers
    dask_killed         the same, and one worker is killed

All nodes must see FOLDER. Prints JSON. The exit code is 1 if artifacts differ or jobs remain.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from neuroseg.evaluation.artifacts import compared
from neuroseg.execution.cluster.slurm import job_name
from neuroseg.storage.workspace import Workspace

ARMS = ("slurm", "slurm_disturbed", "slurm_interrupted", "slurm_killed", "dask", "dask_killed")
WORKERS = 2
DRAINED_S = 20
MINUTE_S = 60


def main() -> None:
    """Run the arms, compare each with the run on this machine, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder for the workspaces")
    parser.add_argument("--volume", required=True, help="the volume to segment")
    parser.add_argument("--blocks", default="64", help="block size in voxels (default 64)")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    seconds = time.monotonic()
    finished(started(given, "local"))
    rows = [{"arm": "local", "seconds": round(time.monotonic() - seconds, 1)}]
    for arm in given.arms:
        rows.append(tried(given, arm))
        print(json.dumps(rows[-1]), file=sys.stderr)
    text = json.dumps(rows, indent=1)
    print(text)
    if given.json:
        given.json.write_text(text + "\n")
    sys.exit(1 if any(row.get("differing") or row.get("jobs_left") for row in rows) else 0)


def tried(given: argparse.Namespace, arm: str) -> dict[str, Any]:
    """Run one arm. Return its seconds, the artifacts that differ from the local run, and the remaining jobs."""
    space, began = workspace(given, arm), time.monotonic()
    row: dict[str, Any] = {"arm": arm}
    if arm.startswith("dask"):
        with dask_cluster(given.folder) as (address, workers):
            head = started(given, arm, "--executor", "dask", "--dask-address", address)
            if arm == "dask_killed":
                await_blocks(space, "affinities", head)
                workers[0].kill()
            finished(head)
    else:
        row |= on_slurm(given, arm, space)
    row["seconds"] = round(time.monotonic() - began, 1)
    if not arm.startswith("dask"):
        row["seconds_until_no_job"], row["jobs_left"] = left_after(space)
    differences = [(name, difference) for name, difference in compared(workspace(given, "local"), space)]
    row["compared"] = len(differences)
    row["differing"] = [name for name, difference in differences if difference is not None]
    return row


def on_slurm(given: argparse.Namespace, arm: str, space: Workspace) -> dict[str, Any]:
    """Run an arm on SLURM. Return its faults."""
    command, row = ("--executor", "slurm"), dict[str, Any]()
    head = started(given, arm, *command)
    if arm == "slurm_disturbed":
        row["disturbed"] = [disturb(space, stage, head) for stage in ("affinities", "fragments")]
    if arm in ("slurm_interrupted", "slurm_killed"):
        await_blocks(space, "affinities", head)
        how = signal.SIGINT if arm == "slurm_interrupted" else signal.SIGKILL
        os.killpg(head.pid, how)
        row["exit_code"] = head.wait()
        row["seconds_until_no_job_then"], left = left_after(space)
        if left:
            raise RuntimeError(f"jobs {left} outlive the head")
        before = marks(space)
        head = started(given, arm, *command)
        finished(head)
        row |= {"blocks_done_before": len(before), "blocks_done_again": len(before - marks(space))}
    finished(head)
    return row


def left_after(space: Workspace) -> tuple[float, list[str]]:
    """Wait until no job of a run is in the queue, at most a minute. Return the seconds and the remaining jobs."""
    ended = time.monotonic()
    while jobs(space) and time.monotonic() < ended + MINUTE_S:
        time.sleep(0.2)
    return round(time.monotonic() - ended, 1), jobs(space)


def disturb(space: Workspace, stage: str, head: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Cancel a job of the stage, requeue another, and drain a node for a while. Return the jobs and the node."""
    await_blocks(space, stage, head)
    await_true(lambda: len(jobs(space, "--states=RUNNING")) == WORKERS)
    first, *others = jobs(space, "--states=RUNNING")
    output_of("scancel", first)
    for job in others[:1]:
        output_of("scontrol", "requeue", job)
    node = output_of("sinfo", "--noheader", "--Node", "--format=%N").split()[-1]
    output_of("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=trial")

    try:
        time.sleep(DRAINED_S)
    finally:
        output_of("scontrol", "update", f"NodeName={node}", "State=RESUME")
    return {"stage": stage, "cancelled": first, "requeued": others[:1], "drained": node}


def started(given: argparse.Namespace, arm: str, *more: str) -> subprocess.Popen[bytes]:
    """Start a run in the workspace of an arm."""
    command = [sys.executable, "-m", "neuroseg", "run", given.volume, "--blocks", given.blocks]
    command += ["-o", str(workspace(given, arm).path), "--workers", str(WORKERS), *more]
    with (given.folder / f"{arm}.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def finished(head: subprocess.Popen[bytes]) -> None:
    """Wait for a run. Raises CalledProcessError if it fails."""
    if head.wait():
        raise subprocess.CalledProcessError(head.returncode, head.args)


def workspace(given: argparse.Namespace, arm: str) -> Workspace:
    """Return the workspace of an arm."""
    return Workspace(given.folder.resolve() / f"{arm}.neuroseg")


def await_blocks(space: Workspace, stage: str, head: subprocess.Popen[bytes]) -> None:
    """Wait until some blocks of a stage are done. Raises RuntimeError if the run ends before."""

    def some() -> bool:
        return len(space.ledger(stage, {}).done()) > 2

    await_true(lambda: head.poll() is not None or some())
    if head.poll() is not None:
        raise RuntimeError(f"the run ended before stage {stage} could be disturbed; use smaller --blocks")


def await_true(true: Callable[[], object], seconds: float = 600.0) -> None:
    """Wait until a condition holds. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.05)


def marks(space: Workspace) -> set[tuple[int, float]]:
    """Return the predicted blocks and the time when each was done."""
    return {(record["block"], record["time"]) for record in space.ledger("affinities", {}).records()}


def jobs(space: Workspace, *more: str) -> list[str]:
    """Return the tasks of a run in SLURM's queue."""
    listed = output_of("squeue", "--me", "--noheader", "--array", "--format=%i %j", *more).splitlines()
    return [line.split()[0] for line in listed if line.split()[1].startswith(job_name(space.path))]


def output_of(*command: str) -> str:
    """Return the output of a command. Raises CalledProcessError if it fails."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@contextmanager
def dask_cluster(folder: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Yield the address of a Dask scheduler, and its two worker processes."""
    file = folder.resolve() / "scheduler.json"
    file.unlink(missing_ok=True)

    def process(*words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", *words, "--scheduler-file", str(file)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    processes = [process("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")]
    try:
        await_true(lambda: file.exists() and file.read_text().endswith("}"))
        flags = ("--no-nanny", "--nthreads", "1", "--no-dashboard", "--local-directory", str(folder))
        workers = [process("distributed.cli.dask_worker", *flags) for _ in range(2)]
        processes += workers
        yield json.loads(file.read_text())["address"], workers
    finally:
        for each in processes:
            each.kill()
            each.wait()


if __name__ == "__main__":
    main()

"""Soak test: kill and stop workers, kill heads, inject disk errors, and check that the result has the same bytes.

    python scripts/soak.py FOLDER [--minutes 30] [--executor local|slurm|dask] [--stream] [--seed 1] [--json F]

`neuroseg segment` segments a synthetic volume of 8 x 8 x 8 blocks in rounds, each in a new workspace. With `--stream`,
a small random network also predicts it, and `neuroseg run --keep stream` deletes affinities. The seed determines the
faults. Every few seconds, a process of the run is killed (SIGKILL) or stopped permanently (SIGSTOP, which the time
limit of blocks must detect). Sometimes the head is killed. One rename or read in a few hundred fails. A command that
ends with failed blocks is run again. Then all voxels are compared with a segmentation in one block, and remaining
processes and jobs are reported.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import psutil
import torch
import zarr

from neuroseg.networks.architectures import build_network
from neuroseg.networks.bundle import save_bundle
from neuroseg.networks.card import Card, NetworkCard, TileCard
from neuroseg.views.synthetic import synthetic_volume

CELLS = 8
BLOCK = 20
OFFSETS = [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]
# Mean time between two faults, and the probability of each kind.
EVERY_S = 5.0
# With --stream, each worker first loads a network.
STREAMED_EVERY_S = 20.0
KINDS = {"killed workers": 0.72, "stopped workers": 0.2, "killed heads": 0.08}
TIMEOUT_S = 20
DISK_ERRORS = 1 / 400
MOST_COMMANDS = 60


@dataclass
class Round:
    """One segmentation, and the faults during it."""

    seconds: float = 0.0
    commands: int = 0
    exit_codes: list[int] = field(default_factory=list)
    misfortunes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    differing_voxels: int = -1
    left_behind: list[str] = field(default_factory=list)
    head_mib: list[float] = field(default_factory=list)


def main() -> None:
    """Run the rounds and print JSON. Exit with 1 if voxels differ or processes remain."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder for the volume and the workspaces")
    parser.add_argument("--minutes", type=float, default=30.0, help="start no round after this time (default 30)")
    parser.add_argument("--executor", default="local", choices=("local", "slurm", "dask"), help="default local")
    parser.add_argument("--stream", action="store_true", help="also predict, and delete affinities during the run")
    parser.add_argument("--seed", type=int, default=1, help="seed of the volume and the faults (default 1)")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    given = parser.parse_args()
    folder = given.folder.resolve()
    command, expected = prepared(folder, given.seed, stream=given.stream)
    rng, began, rounds = random.Random(given.seed), time.monotonic(), list[Round]()
    while not rounds or time.monotonic() < began + 60 * given.minutes:
        rounds.append(soaked(command, expected, folder / "soaked.neuroseg", given.executor, rng))
        print(json.dumps(asdict(rounds[-1])), file=sys.stderr)
    found = report(rounds, given, time.monotonic() - began)
    text = json.dumps(found, indent=1)
    print(text)
    if given.json:
        given.json.write_text(text + "\n")
    sys.exit(0 if found["differing_voxels"] == 0 and not found["left_behind"] else 1)


def prepared(folder: Path, seed: int, *, stream: bool) -> tuple[list[str], np.ndarray]:
    """Return the command that segments a synthetic volume, and its segmentation in one block."""
    name = "streamed" if stream else "whole"
    volume, model, whole = folder / f"{name}-{seed}.zarr", folder / "model", folder / f"{name}-{seed}.neuroseg"
    command = [sys.executable, "-m", "neuroseg"]
    command += ["run", str(volume), "--model", str(model)] if stream else ["segment", "--affinities", str(volume)]
    if not whole.exists():
        folder.mkdir(parents=True, exist_ok=True)
        made = synthetic_volume((CELLS * BLOCK,) * 3, seed)
        noise = np.random.default_rng(seed).integers(0, 90, (3, *made.labels.shape), np.uint8)
        same = np.stack([made.labels == np.roll(made.labels, 1, axis) for axis in range(3)])
        data = made.raw if stream else np.where(same, 255 - noise, noise)
        attributes = {"voxel_size": [10, 10, 10]} | ({} if stream else {"offsets": OFFSETS})
        zarr.create_array(str(volume), data=data, attributes=attributes, overwrite=True)
        if stream:
            save_random_model(model)
        flags = ["--executor", "serial", "--blocks", str(CELLS * BLOCK)]
        subprocess.run([*command, "-o", str(whole), *flags], check=True, stdout=subprocess.DEVNULL)
    return [*command, "--keep", "stream" if stream else "all"], voxels(whole)


def save_random_model(folder: Path) -> None:
    """Save a small network. Its tiles are as large as a block."""
    torch.manual_seed(0)
    parameters = {"widths": [4, 8], "outputs": 3}
    card = Card(
        name="random",
        network=NetworkCard(architecture="light", parameters=parameters),
        offsets=((-1, 0, 0), (0, -1, 0), (0, 0, -1)),
        voxel_size_nm=(10, 10, 10),
        tile=TileCard(output_voxels=(BLOCK,) * 3, context_voxels=(10, 10, 10)),
    )
    save_bundle(folder, card, build_network("light", parameters).state_dict())


def voxels(workspace: Path) -> np.ndarray:
    """Return the segmentation."""
    return np.asarray(zarr.open_array(str(workspace / "segmentation.zarr" / "0"), mode="r")[:])


def soaked(command: list[str], expected: np.ndarray, workspace: Path, executor: str, rng: random.Random) -> Round:
    """Segment the volume while faults happen. Repeat the command until it succeeds."""
    shutil.rmtree(workspace, ignore_errors=True)
    this, began = Round(), time.monotonic()
    flags = ["--executor", executor, "--blocks", str(BLOCK), "--workers", "2", "--block-timeout", str(TIMEOUT_S)]
    errors = f"{rng.randrange(10**6)}:{DISK_ERRORS}:{workspace}/"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent / "soak_faults"), "SOAK_ERRORS": errors}
    while this.commands < MOST_COMMANDS and (not this.exit_codes or this.exit_codes[-1] != 0):
        this.commands += 1
        every_s = STREAMED_EVERY_S if "run" in command else EVERY_S
        run = subprocess.Popen([*command, "-o", str(workspace), *flags], env=environment, stdout=subprocess.DEVNULL)
        over = threading.Event()
        injector = threading.Thread(target=inject_faults, args=(run.pid, workspace, this, rng, over, every_s))
        injector.start()
        this.exit_codes.append(run.wait())
        over.set()
        injector.join()
    this.seconds = round(time.monotonic() - began, 1)
    this.differing_voxels = int((voxels(workspace) != expected).sum()) if this.exit_codes[-1] == 0 else expected.size
    this.left_behind = left_behind(workspace, executor)
    return this


def inject_faults(
    supervisor: int, workspace: Path, this: Round, rng: random.Random, over: threading.Event, every_s: float
) -> None:
    """Kill and stop processes of a run until it is over, and record the memory of its head."""
    due = time.monotonic() + rng.expovariate(1 / every_s)
    while not over.wait(0.5):
        try:
            head = psutil.Process(supervisor).children()[0]
            this.head_mib.append(head.memory_info().rss / 2**20)
            if time.monotonic() < due:
                continue
            due = time.monotonic() + rng.expovariate(1 / every_s)
            (kind,) = rng.choices(list(KINDS), list(KINDS.values()))
            workers = [*head.children(recursive=True), *processes_of(workspace, "neuroseg.workers.remote")]
            chosen = head if kind == "killed heads" else rng.choice(sorted(workers, key=lambda each: each.pid))
            chosen.send_signal(signal.SIGSTOP if kind == "stopped workers" else signal.SIGKILL)
            this.misfortunes[kind] += 1
        except (psutil.Error, IndexError):
            continue  # the process has just ended, or there are no workers now


def processes_of(workspace: Path, program: str = "neuroseg") -> list[psutil.Process]:
    """Return the processes that have the workspace in their command line."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if any(program in word for word in words) and any(str(workspace) in word for word in words):
            found.append(process)
    return found


def left_behind(workspace: Path, executor: str) -> list[str]:
    """Return the processes and SLURM jobs that still exist a minute after the end."""
    limit = time.monotonic() + 60
    while True:
        found = [f"process {process.pid}: {' '.join(process.info['cmdline'])}" for process in processes_of(workspace)]
        if executor == "slurm":
            jobs = subprocess.run(["squeue", "--noheader"], check=True, capture_output=True, text=True).stdout
            found += [f"job {line.strip()}" for line in jobs.splitlines()]
        if not found or time.monotonic() > limit:
            return found
        time.sleep(1)


def report(rounds: list[Round], given: argparse.Namespace, seconds: float) -> dict[str, object]:
    """Return a summary: faults, differing voxels, remaining processes, and the memory of the head over time."""
    heads = [r.head_mib for r in rounds]
    quarters = [(mib[len(mib) // 4 : len(mib) // 2], mib[-len(mib) // 4 :]) for mib in heads]
    return {
        "executor": given.executor,
        "seed": given.seed,
        "blocks_of_a_stage": CELLS**3,
        "minutes": round(seconds / 60, 1),
        "rounds": len(rounds),
        "commands": sum(r.commands for r in rounds),
        **{kind: sum(r.misfortunes[kind] for r in rounds) for kind in KINDS},
        "disk_errors": f"one in {1 / DISK_ERRORS:.0f} renames and reads",
        "differing_voxels": sum(r.differing_voxels for r in rounds),
        "left_behind": [each for r in rounds for each in r.left_behind],
        "seconds_of_rounds": [r.seconds for r in rounds],
        "head_mib_second_and_last_quarter": [[round(statistics.median(q)) for q in pair] for pair in quarters],
    }


if __name__ == "__main__":
    main()

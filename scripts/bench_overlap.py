"""Measure the time that running stages concurrently saves: a slow prediction and the stages after it, on two processes.

    python scripts/bench_overlap.py FOLDER [--repetitions 3] [--json F]

The prediction copies affinities and sleeps, to simulate a GPU. Each block takes as long as fragments and edges of a
block take on one core. One process predicts and one computes, first one stage after the other, then concurrently.
Prints the seconds from the start of the first block to the end of the last one (if one after the other: the sum over
the stages), and the ratio of the medians. Two processes can reach 0.5 at best. Also compares the results byte by byte.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
from pathlib import Path

import numpy as np
import torch
import zarr
from scipy import ndimage

from neuroseg.evaluation.artifacts import compared
from neuroseg.execution.block import ledger_of
from neuroseg.networks.architectures import build_network
from neuroseg.networks.bundle import save_bundle
from neuroseg.networks.card import Card, NetworkCard, TileCard
from neuroseg.runs import executors, groups, pipeline
from neuroseg.runs.options import Options
from neuroseg.runs.plan import read_plan
from neuroseg.storage.workspace import Workspace

CELLS = (3, 3, 28)
BLOCK = 40
OFFSETS = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
STAGES = ("affinities", "fragments", "edges")


def main() -> None:
    """Measure both ways and print the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder for the volume and the workspaces")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    given = parser.parse_args()
    folder = given.folder.resolve()
    make_inputs(folder)
    have_a_gpu()
    computing = sum(seconds_of(segmented(folder, "quick", 0.0, together=False))[1:])
    delay = computing / np.prod(CELLS)
    apart, together = [], []
    for _ in range(given.repetitions):
        one = segmented(folder, "apart", delay, together=False)
        other = segmented(folder, "together", delay, together=True)
        apart.append(sum(seconds_of(one)))
        together.append(seconds_of_all(other))
        differing = [name for name, difference in compared(one, other) if difference]
    ratio = statistics.median(together) / statistics.median(apart)
    result = {
        "blocks": int(np.prod(CELLS)),
        "seconds_a_block": round(float(delay), 3),
        "one_after_the_other_s": [round(seconds, 1) for seconds in apart],
        "together_s": [round(seconds, 1) for seconds in together],
        "ratio": round(ratio, 3),
        "differing": differing,
    }
    text = json.dumps(result, indent=1)
    print(text)
    if given.json:
        given.json.write_text(text + "\n")


def make_inputs(folder: Path) -> None:
    """Write a raw volume, affinities with wide basins, and a model that never runs."""
    if (folder / "model").exists():
        return
    shape = tuple(cells * BLOCK for cells in CELLS)
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).random((3, *shape), np.float32), (0, 2, 4, 4))
    affinities = np.round(255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    stated = {"voxel_size": [10, 10, 10], "offset": [0, 0, 0]}
    zarr.create_array(str(folder / "A.zarr"), data=affinities, chunks=(3, BLOCK, BLOCK, BLOCK))
    zarr.create_array(str(folder / "V.zarr"), data=affinities[0], chunks=(BLOCK,) * 3, attributes=stated)
    parameters = {"widths": [4, 8], "outputs": 3}
    card = Card(
        name="never run",
        network=NetworkCard(architecture="light", parameters=parameters),
        offsets=OFFSETS,
        voxel_size_nm=(10, 10, 10),
        tile=TileCard(output_voxels=(BLOCK,) * 3, context_voxels=(8, 8, 8)),
    )
    torch.manual_seed(0)
    save_bundle(folder / "model", card, build_network("light", parameters).state_dict())


def have_a_gpu() -> None:
    """Give prediction its own workers, like on a machine with a GPU."""
    kind = executors.Executors._kind

    def own_kind(self: executors.Executors, stage: object) -> str:
        return "predict" if stage.name == "affinities" else kind(self, stage)  # type: ignore[attr-defined,arg-type]

    executors.Executors._kind = own_kind  # type: ignore[method-assign,assignment]


def segmented(folder: Path, name: str, delay: float, *, together: bool) -> Workspace:
    """Run all stages with one worker of each kind. Return the workspace."""
    shutil.rmtree(folder / name, ignore_errors=True)
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parent / "slow_prediction")
    os.environ["SLOW_PREDICTION"] = f"{delay}:{folder / 'A.zarr'}"
    at_the_same_time = groups._CONCURRENT
    groups._CONCURRENT = at_the_same_time if together else ()
    try:
        options = {"volume": str(folder / "V.zarr"), "model": str(folder / "model"), "output": str(folder / name)}
        given = {**options, "blocks": str(BLOCK), "executor": "local", "workers": 1, "device": "cpu", "force": True}
        return pipeline.run(Options.model_validate(given))[0]
    finally:
        groups._CONCURRENT = at_the_same_time


def spans(workspace: Workspace) -> list[tuple[float, float]]:
    """Return the start of the first block and the end of the last block of each stage."""
    plan = read_plan(workspace)
    found = []
    for stage in plan.stages(workspace):
        if stage.name in STAGES:
            records = ledger_of(workspace, stage).records()
            found.append((min(r["time"] - r["seconds"] for r in records), max(r["time"] for r in records)))
    return found


def seconds_of(workspace: Workspace) -> list[float]:
    """Return the duration of each stage."""
    return [end - begin for begin, end in spans(workspace)]


def seconds_of_all(workspace: Workspace) -> float:
    """Return the duration of all stages, from the first block to the last."""
    return max(end for _, end in spans(workspace)) - min(begin for begin, _ in spans(workspace))


if __name__ == "__main__":
    main()

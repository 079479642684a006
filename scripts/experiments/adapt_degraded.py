"""Benefit of `neuroseg adapt` without labels: the bundled model on degraded FIB-25.

python scripts/experiments/adapt_degraded.py FOLDER --data DIR [--steps 100]

Blurs the raw by one voxel, halves its contrast, darkens it and adds noise. `neuroseg adapt` adapts the model to the
degraded fib25_unlabelled.h5. The original and the adapted model are scored against the labels on sections 120-159 of
the degraded fib25_ts2.h5, which adaptation does not use. Writes results.json into FOLDER and prints it. The same
command resumes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zarr
from few_labels import PREDICTED, SCORED, neuroseg
from numpy.typing import NDArray
from scipy import ndimage

from neuroseg.storage.publish import publish_text

MODEL = "fib25_light"


def degraded(raw: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """Return raw `(z, y, x)` with lower quality: blurred, low contrast, dark and noisy."""
    blurred = ndimage.gaussian_filter(raw.astype(np.float32), 1.0)
    noise = np.random.default_rng(seed).normal(0.0, 14.0, raw.shape)
    return np.clip(np.rint(108 + (blurred - blurred.mean()) * 0.5 + noise), 0, 255).astype(np.uint8)


def write_degraded(source: Path, path: Path, seed: int) -> None:
    """Write a degraded volume with voxels of 10 nm, unless it exists."""
    if path.exists():
        return
    with h5py.File(source) as file:
        values = degraded(file["raw"][:], seed)
    unfinished = path.with_name(f"{path.name}.partial")
    attributes = {"voxel_size": [10, 10, 10]}
    zarr.create_array(str(unfinished), data=values, chunks=(64, 64, 64), attributes=attributes, overwrite=True)
    unfinished.rename(path)


def scores_of(folder: Path, truth: Path, model: str, name: str) -> dict[str, float]:
    """Segment the degraded labelled volume with a model. Return VOI at its best threshold and at the card's."""
    workspace = str(folder / f"{name}.neuroseg")
    flags = ["--model", model, "--roi", PREDICTED, "--blocks", "64", "-o", workspace]
    neuroseg("run", str(folder / "labelled.zarr"), *flags)
    found = neuroseg("evaluate", workspace, "--truth", f"{truth}:neuron_ids_cc", "--roi", SCORED, "--sweep")
    best = min(found["sweep"], key=lambda row: row["voi_sum"])
    return {"voi_at_model_threshold": found["voi_sum"], "voi_at_best": best["voi_sum"], "best": best["threshold"]}


def experiment(folder: Path, data: Path, steps: int) -> dict[str, Any]:
    """Degrade the volumes, adapt the model, and score both models."""
    folder.mkdir(parents=True, exist_ok=True)
    truth = data / "fib25_ts2.h5"
    write_degraded(truth, folder / "labelled.zarr", 5)
    write_degraded(data / "fib25_unlabelled.h5", folder / "unlabelled.zarr", 6)
    flags = ["--model", MODEL, "--steps", str(steps), "-o", str(folder / f"adapted_{steps}")]
    tuned = neuroseg("adapt", str(folder / "unlabelled.zarr"), *flags, may_refuse=True)
    models = {"before": MODEL} | ({"after": tuned["bundle"]} if tuned["bundle"] else {})
    scores = {name: scores_of(folder, truth, model, f"{name}_{steps}") for name, model in models.items()}
    return {
        "kept": tuned["bundle"] is not None,
        "agreement": {"before": tuned["before"], "after": tuned["after"]},
        **scores,
    }


def main() -> None:
    """Run the experiment and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of fib25_ts2.h5 and fib25_unlabelled.h5")
    parser.add_argument("--steps", type=int, default=100, help="number of adaptation steps")
    given = parser.parse_args()
    results = experiment(given.folder.resolve(), given.data.resolve(), given.steps)
    text = json.dumps(results, indent=2) + "\n"
    publish_text(given.folder / "results.json", text)
    print(text, end="")


if __name__ == "__main__":
    main()

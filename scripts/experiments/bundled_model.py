"""Continue the training of a bundled model with raw without labels in two ways, and with labels only.

python scripts/experiments/bundled_model.py FOLDER --data DIR [--seeds 1] [--steps 1200] [--arms ...]

`as_shipped` is fib25_light. The other arms start from its weights:

- `labels` uses the sections that it was trained on.
- `own_segmentation` takes half of the samples from these sections, and half from the volume without labels. Its labels
  are the segmentation by fib25_light, with the scoring and threshold of the card.
- `weight_sharing` uses these sections, and consistency on the volume without labels (intensity, noise, blur, cutout).

All arms are scored as in few_labels.py: weights of the last step, sections 120-159, which are not used for training.
Writes bundled_model.json, bundled_model.md and bundled_model.png into FOLDER. The same command resumes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from few_labels import USUAL, draw, neuroseg, scores_of, table, trained

from neuroseg.storage.publish import publish_text

MODEL = "fib25_light"
SHIPPED_STEPS = 3000
LABELLED = {"raw": "fib25_ts2.h5:raw", "labels": "fib25_ts2.h5:neuron_ids_cc", "region": "0:120,:,:"}
UNLABELLED = "fib25_unlabelled.h5:raw"
ARMS = ("as_shipped", "labels", "own_segmentation", "weight_sharing")
LEAST_VOXELS = "500"
SHARE_OF_LABELS = 0.5
WEIGHT = 1.0  # of consistency
LEARNING_RATE = 1.0e-3  # the model was trained with 2.0e-3


def own_segmentation(given: argparse.Namespace) -> dict[str, Any]:
    """Segment the raw without labels with the bundled model. Return it as a training volume."""
    workspace = given.folder / "unlabelled.neuroseg"
    flags = ["--model", MODEL, "--min-size", LEAST_VOXELS, "--blocks", "64", "-o", str(workspace)]
    neuroseg("run", str(given.data / UNLABELLED), *flags)
    return {"raw": UNLABELLED, "labels": str(workspace / "segmentation.zarr")}


def data_of(given: argparse.Namespace, arm: str) -> dict[str, Any]:
    """Return the training data of an arm. Segment the volume without labels if the arm needs it."""
    data: dict[str, Any] = {"folders": [str(given.data)], "training": [LABELLED]}
    if arm == "own_segmentation":
        data["training"] = [{**LABELLED, "share": SHARE_OF_LABELS}, own_segmentation(given)]
    if arm == "weight_sharing":
        data["unlabelled"] = [{"raw": UNLABELLED}]
    return data


def continued_training(given: argparse.Namespace, arm: str, seed: int, data: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration of an arm. It is validated only at its last step."""
    warm_up = given.more_steps // 12
    # The network is already trained: the loss ramps up together with the learning rate.
    ramp = {"weight": WEIGHT, "begin_step": 0, "ramp_steps": warm_up, "perturbations": {"names": list(USUAL)}}
    return {
        "extends": str(given.configs / MODEL),
        "name": f"{arm}_{seed}_steps_{given.more_steps}",
        "seed": 100 + seed,  # draws other crops than the previous training
        "data": data,
        "network": {"bundle": MODEL},
        # A bundle has no auxiliary channels, so no arm uses auxiliary targets.
        "targets": {"auxiliary_offsets": [], "descriptor_sigma_nm": 0},
        "optimiser": {"steps": given.more_steps, "warm_up_steps": warm_up, "learning_rate": LEARNING_RATE},
        "validation": {"every_steps": given.more_steps},
        **({"consistency": {"teacher": arm, **ramp}} if arm == "weight_sharing" else {}),
    }


def experiment(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Run the unfinished arms and return the results of all arms."""
    path: Path = given.folder / "bundled_model.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    done = {(row["arm"], row["steps"], row["seed"]) for row in rows}
    for arm in given.arms:
        shipped = arm == "as_shipped"
        for seed in [1] if shipped else given.seeds:
            steps = SHIPPED_STEPS + (0 if shipped else given.more_steps)
            if (arm, steps, seed) in done:
                continue
            if shipped:
                folder = given.folder / arm
            else:
                folder = trained(given, "train", continued_training(given, arm, seed, data_of(given, arm)))
            scores = scores_of(given, folder, MODEL if shipped else str(folder / "bundle"))
            weight = WEIGHT if arm == "weight_sharing" else None
            this = {"sections": 120, "arm": arm, "steps": steps, "seed": seed, "weight": weight, "perturbations": None}
            rows.append({**this, **scores})
            publish_text(path, json.dumps(rows, indent=2) + "\n")
    return rows


def main() -> None:
    """Run the experiment and write its table and figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of fib25_ts2.h5 and fib25_unlabelled.h5")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--steps", type=int, default=1200, dest="more_steps", help="number of additional steps")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    given = parser.parse_args()
    given.folder, given.data = given.folder.resolve(), given.data.resolve()
    given.configs = Path(__file__).resolve().parents[2] / "configs"
    given.folder.mkdir(parents=True, exist_ok=True)
    rows = experiment(given)
    (given.folder / "bundled_model.md").write_text(table(rows))
    draw(rows, given.folder / "bundled_model.png")
    print(table(rows), end="")


if __name__ == "__main__":
    main()

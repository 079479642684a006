"""Self-training: continue a training with its own segmentation of raw as labels, and without it.

python scripts/experiments/self_training.py FOLDER --data DIR [--seeds 1 2] [--steps 600]

Both arms start from the same weights: the supervised training of few_labels.py with five sections. Use the FOLDER of
few_labels.py to reuse that training; otherwise it is run first. `labels` trains as before. `own_segmentation` takes
half of its samples from the segmentation by these weights: sections 0-119 of the labelled volume, and a part of the
unlabelled volume. It uses the scoring mean and the threshold that is best on the five labelled sections. Both arms are
scored as in few_labels.py: weights of the last step, sections 120-159, whose labels are not used for training. Writes
self_training.json, self_training.md and self_training.png into FOLDER. The same command resumes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from few_labels import FIRST_LABELLED, draw, labelled, neuroseg, scores_of, table, trained, training

from neuroseg.storage.publish import publish_text

SECTIONS = 5
BEGUN_STEPS = 1000
ARMS = ("labels", "own_segmentation")
SEGMENTED = {"fib25_ts2.h5:raw": "0:120,:,:", "fib25_unlabelled.h5:raw": "70:190,130:386,130:386"}
LEAST_VOXELS = "500"
SHARE_OF_LABELS = 0.5


def own_segmentation(given: argparse.Namespace, begun: Path, seed: int) -> list[dict[str, Any]]:
    """Segment raw with the final weights of a training. Return the segmentations as training volumes."""
    workspaces = [given.folder / f"segmented_{seed}_{number}.neuroseg" for number in range(len(SEGMENTED))]
    for workspace, (raw, region) in zip(workspaces, SEGMENTED.items(), strict=True):
        flags = ["--model", str(begun / "bundle"), "--roi", region, "--scoring", "mean", "--min-size", LEAST_VOXELS]
        neuroseg("run", str(given.data / raw), *flags, "--blocks", "64", "-o", str(workspace))
    truth = str(given.data / "fib25_ts2.h5:neuron_ids_cc")
    known = f"{FIRST_LABELLED}:{FIRST_LABELLED + SECTIONS},:,:"
    sweep = neuroseg("evaluate", str(workspaces[0]), "--truth", truth, "--roi", known, "--sweep")["sweep"]
    threshold = str(min(sweep, key=lambda row: row["voi_sum"])["threshold"])
    for workspace in workspaces:
        neuroseg("segment", str(workspace), "--threshold", threshold, "--min-size", LEAST_VOXELS)
    return [
        {"raw": raw, "labels": str(workspace / "segmentation.zarr"), "region": region}
        for workspace, (raw, region) in zip(workspaces, SEGMENTED.items(), strict=True)
    ]


def continued_training(
    given: argparse.Namespace, arm: str, seed: int, begun: Path, more: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the configuration of an arm: warm-up for a tenth of the steps, validation only at the last step."""
    sections = {**labelled(SECTIONS), **({"share": SHARE_OF_LABELS} if more else {})}
    return {
        "extends": str(given.configs / "fib25_d5"),
        "name": f"{arm}_{seed}_after_{BEGUN_STEPS}_steps_{given.more_steps}",
        "seed": 100 + seed,  # draws other crops than the previous training
        "data": {"folders": [str(given.data)], "training": [sections, *more]},
        "network": {"bundle": str(begun / "bundle")},
        "optimiser": {"steps": given.more_steps, "warm_up_steps": given.more_steps // 10},
        "validation": {"every_steps": given.more_steps, "scorings": ["quantile:50"]},
    }


def experiment(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Run the unfinished arms and return the results of all arms."""
    path: Path = given.folder / "self_training.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    done = {(row["arm"], row["steps"], row["seed"]) for row in rows}
    for seed in given.seeds:
        begun = trained(given, "train", training(given, "supervised", SECTIONS, seed))
        for arm in given.arms:
            this = {"sections": SECTIONS, "arm": arm, "steps": BEGUN_STEPS + given.more_steps, "seed": seed}
            if (this["arm"], this["steps"], this["seed"]) in done:
                continue
            more = own_segmentation(given, begun, seed) if arm == "own_segmentation" else []
            folder = trained(given, "train", continued_training(given, arm, seed, begun, more))
            scores = scores_of(given, folder, str(folder / "bundle"))
            rows.append({**this, "weight": None, "perturbations": None, **scores})
            publish_text(path, json.dumps(rows, indent=2) + "\n")
    return rows


def main() -> None:
    """Run the experiment and write its table and figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of fib25_ts2.h5 and fib25_unlabelled.h5")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=600, dest="more_steps", help="number of additional steps")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    given = parser.parse_args()
    given.folder, given.data = given.folder.resolve(), given.data.resolve()
    given.configs, given.steps = Path(__file__).resolve().parents[2] / "configs", BEGUN_STEPS
    given.folder.mkdir(parents=True, exist_ok=True)
    rows = experiment(given)
    (given.folder / "self_training.md").write_text(table(rows))
    draw(rows, given.folder / "self_training.png")
    print(table(rows), end="")


if __name__ == "__main__":
    main()

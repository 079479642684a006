"""Benefit of volumes without labels if few sections are labelled: FIB-25, same network and steps in each arm.

python scripts/experiments/few_labels.py FOLDER --data DIR [--sections 5] [--seeds 1 2] [--steps 1000] [--weight 1]
    [--perturbations intensity noise blur cutout] [--arms ...]

DIR contains fib25_ts2.h5 and fib25_unlabelled.h5. Arms:

- `supervised`: labelled sections only.
- `pretrained`: starts with an encoder pre-trained without labels.
- `weight_sharing`, `ema`: as `pretrained`, with consistency on volumes without labels (--weight, --perturbations).
- `weight_sharing_alone`, `ema_alone`: consistency without pre-training.

Each arm trains a fixed number of steps. It is scored once, with the weights of its last step, on sections 120-159, so
no step is chosen. The same command resumes; finished arms are not repeated. Writes results.json, table.md and
figure.png into FOLDER.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import yaml
from ranking import ranking_error_of

from neuroseg.storage.publish import publish_text
from neuroseg.training.perturbations.draw import NAMES

ARMS = ("supervised", "pretrained", "weight_sharing", "ema", "weight_sharing_alone", "ema_alone")
USUAL = ("intensity", "noise", "blur", "cutout")
FIXED_THRESHOLD = 0.5
FIRST_LABELLED = 58
PATCH_DEPTH = 24
SCORED = "120:160,0:250,0:250"
PREDICTED = "90:160,0:250,0:250"
FIRST, LAST = (int(bound) for bound in SCORED.split(",")[0].split(":"))


class Kind(NamedTuple):
    """The settings of a training except its seed.

    `weight` and `perturbations` are None for arms without consistency. `perturbations`: names separated by spaces, or
    None for the usual ones.
    """

    sections: int
    arm: str
    steps: int
    weight: float | None
    perturbations: str | None


def neuroseg(*arguments: str, may_refuse: bool = False) -> dict[str, Any]:
    """Run one neuroseg command and return its JSON output. Messages go to stderr.

    Raises CalledProcessError if it fails. With `may_refuse`, a failed command that prints JSON is accepted.
    """
    ended = subprocess.run([sys.executable, "-m", "neuroseg", *arguments, "--json"], stdout=subprocess.PIPE)
    if not (may_refuse and ended.stdout):
        ended.check_returncode()
    content: dict[str, Any] = json.loads(ended.stdout)
    return content


def pretraining_name(given: argparse.Namespace, seed: int) -> str:
    """Return the name of the pre-training of a seed, which is also the name of its folder."""
    return f"pretraining_{seed}_steps_{given.steps}"


def pretraining(given: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Return the configuration of the pre-training of a seed."""
    return {
        "extends": str(given.configs / "pretraining_fib25"),
        "name": pretraining_name(given, seed),
        "seed": seed,
        "data": {"folders": [str(given.data)]},
        "optimiser": {"steps": given.steps},
    }


def training(given: argparse.Namespace, arm: str, sections: int, seed: int) -> dict[str, Any]:
    """Return the configuration of an arm. It is validated only at its last step, so no step is chosen."""
    teacher = arm.removesuffix("_alone")
    consistent = _is_consistent(arm)
    suffix = "_".join([f"_weight_{given.weight:g}", *_unusual(given)]) if consistent else ""
    content: dict[str, Any] = {
        "extends": str(given.configs / ("fib25_d5_u" if consistent else "fib25_d5")),
        "name": f"{arm}_{sections}_{seed}_steps_{given.steps}{suffix}",
        "seed": seed,
        "data": {"folders": [str(given.data)], "training": [labelled(sections)]},
        "optimiser": {"steps": given.steps},
        "validation": {"every_steps": given.steps, "scorings": ["quantile:50"]},
    }
    if _begins_pretrained(arm):
        content["network"] = {"encoder": str(given.folder / pretraining_name(given, seed))}
    if consistent:
        content["consistency"] = {
            "teacher": teacher,
            "weight": given.weight,
            "begin_step": given.steps * 3 // 10,
            "ramp_steps": given.steps // 5,
            "perturbations": {"names": list(given.perturbations)},
        }
    return content


def _is_consistent(arm: str) -> bool:
    return arm.startswith(("weight_sharing", "ema"))


def _unusual(given: argparse.Namespace) -> list[str]:
    """Return the names of the perturbations, or an empty list for the usual ones."""
    return [] if tuple(given.perturbations) == USUAL else list(given.perturbations)


def _begins_pretrained(arm: str) -> bool:
    return arm != "supervised" and not arm.endswith("_alone")


def labelled(sections: int) -> dict[str, Any]:
    """Return the labelled sections, contiguous and below section 120, with the raw around them."""
    first = min(FIRST_LABELLED, 120 - sections)
    volume = {"raw": "fib25_ts2.h5:raw", "labels": "fib25_ts2.h5:neuron_ids_cc"}
    # Raw around the sections fills a patch. Each patch still contains all of a few sections.
    around = max(0, PATCH_DEPTH - sections)
    return {**volume, "region": f"{first}:{first + sections},:,:", "surround_voxels": [around, 0, 0]}


def trained(given: argparse.Namespace, command: str, content: dict[str, Any]) -> Path:
    """Train a configuration in a folder of its name, resuming; returns the folder."""
    path = given.folder / f"{content['name']}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    folder: Path = given.folder / content["name"]
    neuroseg(command, str(path), "-o", str(folder))
    return folder


def scores_of(given: argparse.Namespace, folder: Path, model: str) -> dict[str, Any]:
    """Segment sections 120-159 with context, and return their scores.

    `best` and `fixed`: at the best and at the fixed threshold, with the scoring quantile:50. `best_by_mean`: with the
    scoring mean. `best_of_others`: without the largest object, in bits per remaining voxel. That object has two fifths
    of all voxels, so one split of it can outweigh all other errors. `ranking_error`: see ranking.py.
    """
    workspace, by_mean = (str(folder / f"{name}.neuroseg") for name in ("judged", "judged_by_mean"))
    raw, truth = (str(given.data / f"fib25_ts2.h5:{name}") for name in ("raw", "neuron_ids_cc"))
    flags = ["--model", model, "--roi", PREDICTED, "--scoring", "quantile:50", "-o", workspace]
    neuroseg("run", raw, *flags, "--threshold", str(FIXED_THRESHOLD), "--blocks", "64")
    affinities = ["--affinities", f"{workspace}/affinities.zarr", "--roi", PREDICTED]
    neuroseg("segment", *affinities, "--scoring", "mean", "--blocks", "64", "-o", by_mean)
    scored = ("--truth", truth, "--roi", SCORED, "--sweep")
    asked = (
        (workspace, *scored), (workspace, *scored, "--ignore", f"0,{largest_object(given.data)}"), (by_mean, *scored),
    )  # fmt: skip
    found, others, averaged = (neuroseg("evaluate", *each) for each in asked)
    best, best_of_others, best_by_mean = (
        min(each.pop("sweep"), key=lambda row: row["voi_sum"]) for each in (found, others, averaged)
    )
    error = ranking_error_of(Path(workspace), given.data / "fib25_ts2.h5", FIRST, LAST)
    return {
        "fixed": found, "best": best, "best_of_others": best_of_others, "best_by_mean": best_by_mean,
        "ranking_error": error,
    }  # fmt: skip


def largest_object(data: Path) -> int:
    """Return the id of the largest object in the scored sections."""
    with h5py.File(data / "fib25_ts2.h5") as file:
        objects, counts = np.unique(file["neuron_ids_cc"][FIRST:LAST], return_counts=True)
    return int(objects[np.argmax(counts * (objects > 0))])


def experiment(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Run the unfinished arms and return the results of all arms."""
    path: Path = given.folder / "results.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    done = {(_kind(row), row["seed"]) for row in rows}
    for sections in given.sections:
        for seed in given.seeds:
            for arm in given.arms:
                kind = kind_of(given, arm, sections)
                if (kind, seed) in done:
                    continue
                if _begins_pretrained(arm):
                    trained(given, "pretrain", pretraining(given, seed))
                folder = trained(given, "train", training(given, arm, sections, seed))
                rows.append({**kind._asdict(), "seed": seed, **scores_of(given, folder, str(folder / "bundle"))})
                publish_text(path, json.dumps(rows, indent=2) + "\n")
    return rows


def kind_of(given: argparse.Namespace, arm: str, sections: int) -> Kind:
    """Return the settings of an arm's trainings."""
    if not _is_consistent(arm):
        return Kind(sections, arm, given.steps, None, None)
    return Kind(sections, arm, given.steps, given.weight, " ".join(_unusual(given)) or None)


MEASURES: Mapping[str, Callable[[dict[str, Any]], str]] = {
    "VOI at its best threshold": lambda row: f"{row['best']['voi_sum']:.3f}",
    f"VOI at {FIXED_THRESHOLD:g}": lambda row: f"{row['fixed']['voi_sum']:.3f}",
    "ARAND at best": lambda row: f"{row['best']['arand']:.3f}",
    "best VOI by mean": lambda row: f"{row['best_by_mean']['voi_sum']:.3f}" if "best_by_mean" in row else "-",
    "best VOI of the other voxels": lambda row: (
        f"{row['best_of_others']['voi_sum']:.3f}" if "best_of_others" in row else "-"
    ),
    "wrongly ordered, %": lambda row: f"{100 * row['ranking_error']:.2f}" if "ranking_error" in row else "-",
}


def table(rows: list[dict[str, Any]]) -> str:
    """Return the results as a Markdown table: VOI sums in bits for each seed, best and fixed threshold."""
    columns = ["labelled sections", "arm", "weight", "perturbations", "steps", "seeds", *MEASURES]
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for group in dict.fromkeys(map(_kind, rows)):
        same = [row for row in rows if _kind(row) == group]
        seeds = ", ".join(str(row["seed"]) for row in same)
        scores = " | ".join(", ".join(map(measure, same)) for measure in MEASURES.values())
        weight = "" if group.weight is None else f"{group.weight:g}"
        kind = f"{group.sections} | {group.arm} | {weight} | {group.perturbations or ''} | {group.steps}"
        lines.append(f"| {kind} | {seeds} | {scores} |")
    return "\n".join(lines) + "\n"


def _kind(row: dict[str, Any]) -> Kind:
    # Old results without perturbations used the usual ones.
    return Kind(*(row.get(field) for field in Kind._fields))  # type: ignore[arg-type]


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw VOI, VOI with the scoring mean, VOI without the largest object, and ranking error. Bars are means."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups = sorted(dict.fromkeys(map(_kind, rows)), key=lambda kind: (kind.sections, kind.steps))
    figure = Figure(figsize=(11.5, 1.0 + 0.3 * len(groups)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    scores = (
        ("VOI sum, bits\n(best threshold)", "best", lambda row: row["best"]["voi_sum"]),
        ("VOI sum by mean\n(best threshold)", "best_by_mean", lambda row: row["best_by_mean"]["voi_sum"]),
        (
            "VOI without the\nlargest object",
            "best_of_others",
            lambda row: row["best_of_others"]["voi_sum"],
        ),
        ("wrongly ordered\npairs, %", "ranking_error", lambda row: 100 * row["ranking_error"]),
    )
    for axes, (name, measured, score) in zip(figure.subplots(1, len(scores), sharey=True), scores, strict=True):
        for place, group in enumerate(groups):
            found = [score(row) for row in rows if _kind(row) == group and measured in row]
            axes.plot(found, [place] * len(found), "o", color="#1f6fb4")
            if found:
                axes.plot([sum(found) / len(found)] * 2, [place - 0.3, place + 0.3], color="#1f6fb4")
        axes.set_xlabel(name)
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    axes.set_yticks(range(len(groups)), [_described(kind) for kind in groups], fontsize=8)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    figure.savefig(path)


def _described(kind: Kind) -> str:
    weight = "" if kind.weight is None else f", weight {kind.weight:g}"
    names = f", {kind.perturbations}" if kind.perturbations else ""
    return f"{kind.sections} sections, {kind.steps} steps, {kind.arm}{weight}{names}"


def main() -> None:
    """Run the experiment and write its table and figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of fib25_ts2.h5 and fib25_unlabelled.h5")
    parser.add_argument("--sections", type=int, nargs="+", default=[5])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--weight", type=float, default=1.0, help="weight of the consistency loss")
    parser.add_argument("--perturbations", nargs="+", default=list(USUAL), choices=NAMES, metavar="NAME",
                        help=f"perturbations of consistency: {', '.join(NAMES)}")  # fmt: skip
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    given = parser.parse_args()
    given.folder, given.data = given.folder.resolve(), given.data.resolve()
    given.configs = Path(__file__).resolve().parents[2] / "configs"
    given.folder.mkdir(parents=True, exist_ok=True)
    rows = experiment(given)
    (given.folder / "table.md").write_text(table(rows))
    draw(rows, given.folder / "figure.png")
    print(table(rows), end="")


if __name__ == "__main__":
    main()

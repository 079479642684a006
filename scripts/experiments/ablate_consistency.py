"""Ablation of consistency learning: fine-tune one training, each variant with other consistency settings.

python scripts/experiments/ablate_consistency.py FOLDER --data DIR [--seeds 3 4] [--steps 200] [--variants ...]

All variants start from the same weights: the supervised training of few_labels.py with five sections. Use the FOLDER of
few_labels.py to reuse that training; otherwise it is run first. Each variant is tuned for a few steps on the same
labelled crops. It is scored with the weights of its last step on sections 120-159, which are not used for training:
ranking error of its affinities, and VOI at its best threshold. The control `labels` takes the same number of steps
without consistency. With so many variants, the best may be best by chance; repeat it with other seeds. Writes
ablation.json, ablation.md and ablation.png into FOLDER. The same command resumes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from few_labels import FIRST, LAST, PREDICTED, USUAL, labelled, neuroseg, trained, training
from ranking import ranking_error_of

from neuroseg.storage.publish import publish_text

SECTIONS = 5
BEGUN_STEPS = 1000
RAMPED = "ramped"  # over three quarters of the steps
SINGLE = (*USUAL, "misalign", "elastic", "rescale", "flip", "rotate", "missing")


def _variants() -> dict[str, dict[str, Any] | None]:
    """Return the consistency settings of each variant. None: labels only.

    At a weight of 1, most variants differ less than seeds do. The variants `weight_5_*` therefore use a weight of 5.
    Flips help there, so they are combined with further settings.
    """
    usual = {"teacher": "ema", "weight": 1.0, "perturbations": {"names": list(USUAL)}}
    heavy, every = {**usual, "weight": 5.0}, {"perturbations": {"names": list(SINGLE)}}
    flips = {"perturbations": {"names": ["flip"]}}
    return {
        "labels": None,
        "averaged_teacher": usual,
        "weight_sharing": {**usual, "teacher": "weight_sharing"},
        "weight_0.2": {**usual, "weight": 0.2},
        "confidence_0.8": {**usual, "confidence": 0.8},
        "teacher_of_4": {**usual, "teacher_orientations": 4},
        RAMPED: usual,
        "half_as_strong": {**usual, "perturbations": {"names": list(USUAL), "strength": 0.5}},
        "all_perturbations": {**usual, **every},
        **{name: {**usual, "perturbations": {"names": [name]}} for name in SINGLE},
        "weight_5": heavy,
        "weight_5_weight_sharing": {**heavy, "teacher": "weight_sharing"},
        "weight_5_confidence_0.8": {**heavy, "confidence": 0.8},
        "weight_5_teacher_of_4": {**heavy, "teacher_orientations": 4},
        "weight_5_all_perturbations": {**heavy, **every},
        "weight_5_all_perturbations_teacher_of_4": {**heavy, **every, "teacher_orientations": 4},
        "weight_5_without_cutout": {**heavy, "perturbations": {"names": [name for name in USUAL if name != "cutout"]}},
        "weight_5_all_but_cutout": {**heavy, "perturbations": {"names": [name for name in SINGLE if name != "cutout"]}},
        **{f"weight_5_{name}": {**heavy, "perturbations": {"names": [name]}} for name in SINGLE},
        "weight_5_flip_teacher_of_4": {**heavy, **flips, "teacher_orientations": 4},
        "weight_5_flip_weight_sharing": {**heavy, **flips, "teacher": "weight_sharing"},
        "weight_5_flip_rotate": {**heavy, "perturbations": {"names": ["flip", "rotate"]}},
        "weight_20_flip": {**usual, **flips, "weight": 20.0},
    }


VARIANTS: Mapping[str, dict[str, Any] | None] = _variants()


def tuning(given: argparse.Namespace, variant: str, seed: int, begun: Path) -> dict[str, Any]:
    """Return the configuration of a variant: warm-up for a tenth of the steps, validation only at the last step."""
    consistency = VARIANTS[variant]
    content: dict[str, Any] = {
        "extends": str(given.configs / ("fib25_d5" if consistency is None else "fib25_d5_u")),
        "name": f"tuned_{seed}_steps_{given.tuned_steps}_rate_{given.learning_rate:g}_{variant}",
        "seed": 100 + seed,  # draws other crops than the previous training
        "data": {"folders": [str(given.data)], "training": [labelled(SECTIONS)]},
        "network": {"bundle": str(begun)},
        "optimiser": {
            "steps": given.tuned_steps, "warm_up_steps": given.tuned_steps // 10, "learning_rate": given.learning_rate,
        },
        "validation": {"every_steps": given.tuned_steps, "scorings": ["quantile:50"]},
    }  # fmt: skip
    if consistency is not None:
        ramp = given.tuned_steps * 3 // 4 if variant == RAMPED else 0
        content["consistency"] = {**consistency, "begin_step": 0, "ramp_steps": ramp}
    return content


def scores_of(given: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Return the ranking error of a training's affinities on the test sections, and its best VOI there."""
    workspace = folder / "ranked.neuroseg"
    raw = str(given.data / "fib25_ts2.h5:raw")
    neuroseg(
        "predict", raw, "--model", str(folder / "bundle"), "--roi", PREDICTED, "--blocks", "64", "-o", str(workspace)
    )
    best = yaml.safe_load((folder / "best.yaml").read_text())
    error = ranking_error_of(workspace, given.data / "fib25_ts2.h5", FIRST, LAST)
    return {"ranking_error": error, "voi_sum": best["voi_sum"], "threshold": best["threshold"]}


def experiment(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Run the unfinished variants and return the results of all variants."""
    path: Path = given.folder / "ablation.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    done = {(row["variant"], row["seed"], row["steps"], row["learning_rate"]) for row in rows}
    for seed in given.seeds:
        begun = trained(given, "train", training(given, "supervised", SECTIONS, seed))
        for variant in ("untuned", *given.variants):
            if (variant, seed, given.tuned_steps, given.learning_rate) in done:
                continue
            untuned = variant == "untuned"
            folder = begun if untuned else trained(given, "train", tuning(given, variant, seed, begun / "bundle"))
            this = {"variant": variant, "seed": seed, "steps": given.tuned_steps, "learning_rate": given.learning_rate}
            rows.append({**this, **scores_of(given, folder)})
            publish_text(path, json.dumps(rows, indent=2) + "\n")
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Return the results as a Markdown table: each seed, and its difference in ranking error from `labels`."""
    lines = [
        "| variant | steps | seeds | wrongly ordered, % | against labels only | VOI at its best threshold |",
        "|---|---|---|---|---|---|",
    ]
    for variant, steps in dict.fromkeys(map(_kind, rows)):
        same = [row for row in rows if _kind(row) == (variant, steps)]
        seeds = ", ".join(str(row["seed"]) for row in same)
        errors = ", ".join(f"{100 * row['ranking_error']:.2f}" for row in same)
        gain = ", ".join(f"{each:+.2f}" for each in against_labels(rows, variant, steps))
        voi = ", ".join(f"{row['voi_sum']:.3f}" for row in same)
        lines.append(f"| {variant} | {steps} | {seeds} | {errors} | {gain} | {voi} |")
    return "\n".join(lines) + "\n"


def _kind(row: dict[str, Any]) -> tuple[str, int]:
    return row["variant"], row["steps"]


def against_labels(rows: list[dict[str, Any]], variant: str, steps: int) -> list[float]:
    """Return the ranking error of a variant minus that of `labels`, in percentage points, for each seed."""
    control = {row["seed"]: row["ranking_error"] for row in rows if _kind(row) == ("labels", steps)}
    same = [row for row in rows if _kind(row) == (variant, steps) and row["seed"] in control]
    return [100 * (row["ranking_error"] - control[row["seed"]]) for row in same]


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the difference of each variant from `labels`: one dot per seed, the best variant at the top."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = {kind: against_labels(rows, *kind) for kind in dict.fromkeys(map(_kind, rows)) if kind[0] != "labels"}
    ordered = sorted((kind for kind in found if found[kind]), key=lambda kind: -sum(found[kind]) / len(found[kind]))
    figure = Figure(figsize=(7.0, 0.8 + 0.26 * len(ordered)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for place, kind in enumerate(ordered):
        gains = found[kind]
        axes.plot(gains, [place] * len(gains), "o", color="#1f6fb4")
        axes.plot([sum(gains) / len(gains)] * 2, [place - 0.3, place + 0.3], color="#1f6fb4")
    axes.axvline(0, color="0.7", linewidth=1, zorder=0)
    names = [f"{variant.replace('_', ' ')}, {steps} steps" for variant, steps in ordered]
    axes.set_yticks(range(len(ordered)), names, fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    figure.supxlabel(
        "wrongly ordered pairs compared with labels only, in percentage points (left is better)", fontsize=8
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main() -> None:
    """Run the experiment and write its table and figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of fib25_ts2.h5 and fib25_unlabelled.h5")
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 4])
    parser.add_argument("--steps", type=int, default=200, dest="tuned_steps", help="number of steps of each variant")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="highest learning rate")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS, metavar="VARIANT",
                        help=f"variants to run: {', '.join(VARIANTS)}")  # fmt: skip
    given = parser.parse_args()
    given.folder, given.data = given.folder.resolve(), given.data.resolve()
    given.configs, given.steps = Path(__file__).resolve().parents[2] / "configs", BEGUN_STEPS
    given.folder.mkdir(parents=True, exist_ok=True)
    rows = [row for row in experiment(given) if row["learning_rate"] == given.learning_rate]
    (given.folder / "ablation.md").write_text(table(rows))
    draw(rows, given.folder / "ablation.png")
    print(table(rows), end="")


if __name__ == "__main__":
    main()

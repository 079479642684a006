"""Generalisation of trainings on few sections: the ranking error of affinities along z in FIB-25.

python scripts/experiments/errors_by_section.py FOLDER --data DIR [--stretch 8] TRAINING [TRAINING ...]

TRAINING is the folder of a training by few_labels.py. Each training predicts the whole labelled volume. The ranking
error (ranking.py) is computed for each stretch of sections. Writes sections.json and sections.png into FOLDER. The same
command resumes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import yaml
from few_labels import FIRST, LAST, neuroseg
from ranking import ranking_error_of

from neuroseg.storage.publish import publish_text

DEPTH = 160


def labelled_sections(training: Path) -> tuple[int, int]:
    """Return the first labelled section of a training, and the last one plus 1."""
    content = yaml.safe_load((training / "configuration.yaml").read_text())
    first, last = content["data"]["training"][0]["region"].split(",")[0].split(":")
    return int(first), int(last)


def errors_of(given: argparse.Namespace, training: Path) -> list[float]:
    """Return the ranking error of a training on each stretch. Section 0 has no section below and is left out."""
    workspace = given.folder / f"{training.name}.neuroseg"
    raw, truth = f"{given.data / 'fib25_ts2.h5'}:raw", given.data / "fib25_ts2.h5"
    neuroseg("predict", raw, "--model", str(training / "bundle"), "--blocks", "64", "-o", str(workspace))
    stretches = range(0, DEPTH, given.stretch)
    return [ranking_error_of(workspace, truth, max(1, z), min(DEPTH, z + given.stretch)) for z in stretches]


def draw(found: dict[str, dict[str, Any]], stretch: int, path: Path) -> None:
    """Draw the error along z, one line per training. Equal numbers of labelled sections share a colour."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 3.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    kinds = sorted({tuple(each["labelled"]) for each in found.values()}, key=lambda kind: kind[1] - kind[0])
    for number, kind in enumerate(kinds):
        colour = f"C{number}"
        for each in found.values():
            if tuple(each["labelled"]) == kind:
                places = [z * stretch + stretch / 2 for z in range(len(each["errors"]))]
                axes.plot(places, [100 * error for error in each["errors"]], color=colour, linewidth=1.2)
        axes.plot([], [], color=colour, label=f"{kind[1] - kind[0]} labelled sections ({kind[0]}-{kind[1] - 1})")
        axes.axvspan(*kind, color=colour, alpha=0.12, linewidth=0)
    axes.axvspan(FIRST, LAST, color="0.5", alpha=0.12, linewidth=0, label=f"scored ({FIRST}-{LAST - 1})")
    axes.set_xlim(0, DEPTH)
    axes.set_ylim(0)
    axes.set_xlabel("section")
    axes.set_ylabel("wrongly ordered pairs, %")
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main() -> None:
    """Predict, score and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("trainings", type=Path, nargs="+", metavar="TRAINING")
    parser.add_argument("--data", type=Path, required=True, help="folder of fib25_ts2.h5")
    parser.add_argument("--stretch", type=int, default=8, help="number of sections per stretch")
    given = parser.parse_args()
    given.folder, given.data = given.folder.resolve(), given.data.resolve()
    names = [training.name for training in given.trainings]
    if len(set(names)) < len(names):
        parser.error(f"the names of the trainings must differ, found {', '.join(names)}")
    given.folder.mkdir(parents=True, exist_ok=True)
    found = {
        training.name: {"labelled": labelled_sections(training), "errors": errors_of(given, training)}
        for training in given.trainings
    }
    publish_text(given.folder / "sections.json", json.dumps(found, indent=2) + "\n")
    draw(found, given.stretch, given.folder / "sections.png")
    for name, each in found.items():
        print(name, " ".join(f"{100 * error:.2f}" for error in each["errors"]))


if __name__ == "__main__":
    main()

"""Compare the methods for fragments and agglomeration with the complete pipeline. Prints a table and writes JSON.

python scripts/compare_methods.py WORKSPACE --truth labels.h5:ids [--roi z0:z1,y0:y1,x0:x1] [-o comparison.json]

WORKSPACE is predicted, or segmented from affinities or boundaries. It is not changed. Each method runs in its own
process and workspace and reads the same affinities. The table contains, for each method, the scores at the threshold
0.5 and at the best threshold, and the time and peak memory of the stages after prediction at 0.5. A merge tree gives
all thresholds in one run. Other methods run once per threshold.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from neuroseg.runs.pipeline import workspace_at

THRESHOLD = 0.5
METHODS = [
    ("distance-basins", "tree", "quantile:75"),
    ("distance-basins", "tree", "quantile:50"),
    ("distance-basins", "tree", "mean"),
    ("seeded-watershed", "tree", "quantile:50"),
    ("mutex-watershed", "tree", "mean"),
    ("distance-basins", "multicut", "mean"),
    ("seeded-watershed", "multicut", "mean"),
    ("distance-basins", "gaec", "mean"),
    ("distance-basins", "waterz", "quantile:50"),
    ("seeded-watershed", "waterz", "quantile:50"),
]


def neuroseg(*arguments: str) -> dict[str, Any]:
    """Run one command in its own process and return its JSON output. Its messages go to stderr."""
    command = [sys.executable, "-m", "neuroseg", *arguments, "--json"]
    content: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return content


def source_of(path: str) -> list[str]:
    """Return the flags that segment the affinities or boundaries of a workspace in another workspace."""
    workspace, plan = workspace_at(path)
    size = [str(edge) for edge in plan.voxel_size_nm]
    if plan.kind == "boundaries":
        return ["--boundaries", plan.path, "--voxel-size", *size]
    affinities = str(workspace.affinities) if plan.kind == "raw" else plan.path
    offsets = ";".join(",".join(map(str, offset)) for offset in plan.offsets)
    return ["--affinities", affinities, f"--offsets={offsets}", "--voxel-size", *size]


def compared(method: tuple[str, str, str], folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Return the scores, time and memory of one method."""
    fragments, agglomeration, scoring = method
    workspace = str(folder / "-".join(method).replace(":", "-"))
    flags = ["--fragments", fragments, "--agglomeration", agglomeration, "--scoring", scoring]
    flags += ["--blocks", given.blocks, "--executor", "serial", "-o", workspace, *source_of(given.workspace)]
    truth = ["--truth", given.truth, *(["--roi", given.roi] if given.roi else [])]
    made = neuroseg("segment", *flags, "--threshold", str(THRESHOLD))
    if agglomeration == "tree":
        default = neuroseg("evaluate", workspace, *truth, "--sweep")
        swept = default.pop("sweep")
    else:
        default = neuroseg("evaluate", workspace, *truth)
        swept = [default]
        for threshold in given.thresholds:
            neuroseg("segment", *flags, "--threshold", str(threshold), "--restart", "agglomeration")
            swept.append(neuroseg("evaluate", workspace, *truth))
    return {
        "fragments": fragments,
        "agglomeration": agglomeration,
        "scoring": scoring,
        "default": default,
        "best": min(swept, key=lambda scores: scores["voi_sum"]),
        "seconds": round(sum(stage["seconds"] for stage in made["stages"]), 1),
        "peak_mib": max(stage["peak_mib"] or 0 for stage in made["stages"]),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the comparison as a Markdown table, scores as split + merge = sum in bits."""

    def scores(row: dict[str, Any], which: str) -> str:
        found = row[which]
        return f"{found['voi_split']:.3f} + {found['voi_merge']:.3f} = {found['voi_sum']:.3f}"

    lines = [
        f"| fragments | agglomeration | scoring | VOI at {THRESHOLD:g} | best VOI | at | seconds | peak MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        names = " | ".join(row[name] for name in ("fragments", "agglomeration", "scoring"))
        numbers = f"{row['best']['threshold']:g} | {row['seconds']} | {row['peak_mib']}"
        lines.append(f"| {names} | {scores(row, 'default')} | {scores(row, 'best')} | {numbers} |")
    return "\n".join(lines)


def main() -> None:
    """Compare all methods on one volume."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace")
    parser.add_argument("--truth", required=True, help="zarr or file.h5:dataset")
    parser.add_argument("--roi", help="region of the scores in voxels")
    parser.add_argument("--blocks", default="256")
    parser.add_argument("--thresholds", type=float, nargs="*", default=[0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9])
    parser.add_argument("-o", "--output", type=Path, help="also write the numbers to this JSON file")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for method in METHODS:
            rows.append(compared(method, Path(folder), given))
            if given.output:
                given.output.write_text(json.dumps(rows, indent=2) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()

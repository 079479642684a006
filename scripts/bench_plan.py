"""Measure how far `neuroseg plan` is off: plan and run the same volume several times.

    python scripts/bench_plan.py FOLDER [--repeat N] OPTIONS

OPTIONS are those of `neuroseg run`, or of `neuroseg segment` with --affinities. Prints one row per repetition: what was
planned, what the run took, the deviation in percent, and the load of the machine (processes that want a core). Other
programs on the machine make the times of both vary.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from bench.cube import command


def main() -> None:
    """Plan and run, and print the deviations and their medians as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder for the workspaces")
    parser.add_argument("--repeat", type=int, default=3)
    given, options = parser.parse_known_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    rows = [measured(given.folder.resolve() / "planned.neuroseg", options) for _ in range(given.repeat)]
    names = [name for name in rows[0] if name != "load"]
    medians = {
        name: {key: median(row[name][key] for row in rows) for key in ("planned", "taken", "percent")} for name in names
    }
    print(json.dumps({"repetitions": rows, "median": medians}, indent=1))


def measured(workspace: Path, options: list[str]) -> dict[str, Any]:
    """Plan and run once; return the deviations, and the load before and after."""
    shutil.rmtree(workspace, ignore_errors=True)
    verb = "segment" if "--affinities" in options else "run"
    before = os.getloadavg()[0]
    output = [*options, "-o", str(workspace), "--json"]
    for arguments in (["plan", *output], [verb, *output, "--no-report"]):
        ran = subprocess.run(command(*arguments), stdout=subprocess.PIPE, text=True, check=True)
    sys.stderr.flush()
    return {**json.loads(ran.stdout)["plan"], "load": [round(before, 1), round(os.getloadavg()[0], 1)]}


if __name__ == "__main__":
    main()

"""volara in its own environment, which is installed once. Its script (volara_pipeline.py) runs there."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from cube import Cube, children_cpu_seconds
from report import Row, timed

VOLARA = "volara==1.0.5"
_SCRIPT = Path(__file__).with_name("volara_pipeline.py")


def measure(data: Cube, block: int, repeat: int) -> list[Row]:
    """Return volara's time from the same affinities to its segmentation, in total and for each step."""
    python = _environment(data.folder / "volara-environment")
    times: dict[str, list[float]] = {}
    cpu_seconds = []
    for _ in range(repeat):
        before = children_cpu_seconds()
        work = data.folder / "volara"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        line = [str(python), str(_SCRIPT), str(data.affinities), str(work), str(block)]
        log = data.folder / "volara.log"
        with log.open("w") as errors:
            done = subprocess.run(line, check=False, cwd=work, stdout=subprocess.PIPE, stderr=errors, text=True)
        if done.returncode:
            raise SystemExit(f"volara failed; {log} ends with:\n{log.read_text()[-2000:]}")
        for step, seconds in json.loads(done.stdout.splitlines()[-1]).items():
            times.setdefault(step, []).append(seconds)
        cpu_seconds.append(children_cpu_seconds() - before)
    rows = [timed("volara", f"{step}, blocks {block}", seconds, data.voxels) for step, seconds in times.items()]
    return [*rows, timed("volara", f"CPU, blocks {block}", cpu_seconds, data.voxels)]


def _environment(folder: Path) -> Path:
    """Return the Python of a virtual environment with volara. Install it if it does not exist."""
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        print(f"installing {VOLARA} in {folder}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", VOLARA], check=True)
        (folder / "installed").touch()
    return python

"""Run each probe in a process of its own, as a worker would run, and collect the measurements.

plan + blocks  ->  one process per block (workers/measurement.py)  ->  measurements, start of a worker
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import yaml

from neuroseg.configuration import validated
from neuroseg.errors import NeurosegError
from neuroseg.execution.local import environment_of_worker
from neuroseg.execution.task import Observe
from neuroseg.runs.measuring import Probe
from neuroseg.runs.plan import Plan
from neuroseg.runs.probing import probe_block

_PLAN, _RESULT, _LOG = "plan.json", "measured.yaml", "log"
_LOG_LINES = 5


@dataclass(frozen=True)
class Probed:
    """The measurements at some blocks, and the seconds that a worker needs to start and to end."""

    probes: tuple[Probe, ...]
    worker_s: float


def probed(plan: Plan, blocks: Sequence[int], folder: Path, parallel: int, observe: Observe) -> Probed:
    """Return the measurements at some blocks of a plan. Up to `parallel` processes run at a time.

    `folder` is for temporary files. Raises NeurosegError if a probe fails.
    """
    with ThreadPoolExecutor(parallel, "probe") as pool:
        waiting = [pool.submit(_in_process, plan, block, folder / str(block)) for block in blocks]
        results = []
        for each in waiting:
            results.append(each.result())
            observe(len(results), 0)
    return Probed(tuple(probe for probe, _ in results), median(seconds for _, seconds in results))


def _in_process(plan: Plan, block: int, folder: Path) -> tuple[Probe, float]:
    """Measure one block in another process; return the measurements, and the seconds that its start and end took."""
    folder.mkdir()
    (folder / _PLAN).write_text(plan.model_dump_json())
    # -P: do not import from the working directory, which may contain data of others.
    command = [sys.executable, "-P", "-m", "neuroseg.workers.measurement", str(folder), str(block), str(os.getpid())]
    began = time.time()
    with (folder / _LOG).open("wb") as log:
        code = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment_of_worker(), check=False
        ).returncode
    ended = time.time()
    if code:
        lines = (folder / _LOG).read_text(errors="replace").strip().splitlines()
        raise NeurosegError(
            f"the probe of block {block} failed with exit code {code}:\n" + "\n".join(lines[-_LOG_LINES:])
        )
    content = yaml.safe_load((folder / _RESULT).read_text())
    around = (content["started"] - began) + (ended - content["done"])
    return validated(content["probe"], Probe, str(folder / _RESULT)), around


def measure_and_write(folder: Path, block: int, started: float) -> None:
    """Measure one block of the plan in `folder`, and write the measurements there. A probe's process calls this."""
    plan = Plan.model_validate_json((folder / _PLAN).read_text())
    probe = probe_block(plan, block, folder / "probe.neuroseg")
    content = {"probe": probe.model_dump(mode="json"), "started": started, "done": time.time()}
    (folder / _RESULT).write_text(yaml.safe_dump(content))

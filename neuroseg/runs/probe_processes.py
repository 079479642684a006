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

from neuroseg.errors import NeurosegError
from neuroseg.execution.cluster.program import last_lines
from neuroseg.execution.local import environment_of_worker
from neuroseg.execution.task import Observe
from neuroseg.runs.measuring import Probe
from neuroseg.runs.plan import Plan
from neuroseg.runs.probing import probe_block
from neuroseg.storage.publish import publish_text

_PLAN, _RESULT, _LOG = "plan.json", "measured.json", "log"


@dataclass(frozen=True)
class Probed:
    """The measurements at some blocks on one kind of machine, and the seconds that a worker needs to start and to end.

    `kind` is the kind of job that measured. It is empty if processes of this machine did.
    """

    probes: tuple[Probe, ...]
    worker_s: float
    kind: str = ""


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
    write_task(plan, folder)
    # -P: do not import from the working directory, which may contain data of others.
    command = [sys.executable, "-P", "-m", "neuroseg.workers.measurement", str(folder), str(block), str(os.getpid())]
    with (folder / _LOG).open("wb") as log:
        code = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment_of_worker(), check=False
        ).returncode
    if code:
        raise NeurosegError(f"the probe of block {block} failed with exit code {code}:\n  {last_lines(folder / _LOG)}")
    ending_s = time.time() - (folder / _RESULT).stat().st_mtime
    probe = read_measurements(folder)
    return probe, probe.start_s + ending_s


def write_task(plan: Plan, folder: Path) -> None:
    """Create the folder of one measurement, with the plan in it."""
    folder.mkdir()
    (folder / _PLAN).write_text(plan.model_dump_json())


def measure_and_write(folder: Path, block: int) -> None:
    """Measure one block of the plan in `folder`, and write the measurements there. A probe's process calls this."""
    plan = Plan.model_validate_json((folder / _PLAN).read_text())
    probe = probe_block(plan, block, folder / "probe.neuroseg")
    publish_text(folder / _RESULT, probe.model_dump_json())


def read_measurements(folder: Path) -> Probe:
    """Return the measurements that a probe's process wrote in `folder`."""
    return Probe.model_validate_json((folder / _RESULT).read_text())

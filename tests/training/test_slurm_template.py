"""The SLURM template of training: a stopped job saves, is requeued, and resumes exactly."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from neuroseg.training.learning.records import load_checkpoint
from tests.execution.clusters import needs_slurm

TEMPLATE = Path(__file__).parents[2] / "workers" / "slurm" / "train.sbatch"


def said(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def wait_until(happened: Callable[[], bool], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, said("squeue")
        time.sleep(0.2)


def test_the_template_is_a_shell_script() -> None:
    subprocess.run(["bash", "-n", str(TEMPLATE)], check=True)


def started(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the template with commands in its path that only record their arguments."""
    for name in ("neuroseg", "torchrun"):
        (folder / name).write_text(f'#!/bin/sh\necho {name} "$@"\necho "safe: $PYTHONSAFEPATH" >&2\n')
        (folder / name).chmod(0o755)
    others = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "NEUROSEG_"))}
    others["PATH"] = f"{folder}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", str(TEMPLATE), "CONFIG", "-o", "a folder"],
        check=False, capture_output=True, text=True, env={**others, **variables},
    )  # fmt: skip


@pytest.mark.parametrize(("variables", "command"), [({}, "train"), ({"NEUROSEG_COMMAND": "pretrain"}, "pretrain")])
def test_the_template_trains_or_pretrains(variables: dict[str, str], command: str, tmp_path: Path) -> None:
    done = started(tmp_path, **variables)
    assert (done.returncode, done.stdout) == (0, f"neuroseg {command} CONFIG -o a folder\n"), done.stderr
    several = started(tmp_path, SLURM_GPUS_ON_NODE="4", **variables)
    assert several.stderr == "safe: 1\n", "torchrun would put the working directory first"
    assert several.stdout.endswith(f"--nproc-per-node 4 -m neuroseg {command} CONFIG -o a folder\n")


def test_the_template_refuses_other_commands(tmp_path: Path) -> None:
    done = started(tmp_path, NEUROSEG_COMMAND="adapt")
    assert (done.returncode, done.stdout) == (2, "")
    assert "NEUROSEG_COMMAND is adapt" in done.stderr


@pytest.mark.long
@needs_slurm
def test_a_stopped_job_saves_and_is_requeued(configuration: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(configuration.read_text())
    content["optimiser"]["steps"] = content["validation"]["every_steps"] = 60
    path = configuration.with_name("slurm.yaml")
    path.write_text(yaml.safe_dump(content))
    path_of_command = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    # Use the command, as the job does: other tests may have changed the number of threads of this process.
    uncut = [sys.executable, "-m", "neuroseg", "train", str(path), "-o", str(tmp_path / "uncut")]
    subprocess.run([*uncut, "--device", "cpu"], check=True, capture_output=True)
    flags = ["--parsable", "--time=10", "--output", str(tmp_path / "job.log"), "--chdir", str(tmp_path)]
    job = subprocess.run(
        ["sbatch", *flags, str(TEMPLATE), str(path), "-o", str(tmp_path / "run"), "--device", "cpu"],
        check=True, capture_output=True, text=True, env={**os.environ, "PATH": path_of_command},
    ).stdout.strip()  # fmt: skip
    log, checkpoint = tmp_path / "run" / "log.csv", tmp_path / "run" / "checkpoint.pt"
    wait_until(lambda: log.exists() and "loss/total" in log.read_text())
    said("scancel", "--batch", "--signal=USR1", job)
    wait_until(checkpoint.exists)
    stopped = load_checkpoint(checkpoint)["step"]
    assert 20 <= stopped < 60
    wait_until(lambda: "back to the queue" in (tmp_path / "job.log").read_text())
    # A requeued job waits for two minutes. SLURM kills a job that restarts in the second in which it ended, because its
    # new credential looks like the revoked one.
    time.sleep(3)
    said("scontrol", "update", f"JobId={job}", "StartTime=now")
    wait_until(lambda: job not in said("squeue", "--noheader", "--format=%i"), 300)
    one, other = (load_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("uncut", "run"))
    assert other["step"] == 60, (tmp_path / "job.log").read_text()
    for name, tensor in one["network"].items():
        assert torch.equal(tensor, other["network"][name]), name

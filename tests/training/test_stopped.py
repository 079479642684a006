"""A training stopped by SIGTERM saves, leaves no process, and resumes to the weights of an uninterrupted training."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
import yaml

from neuroseg.training.learning.records import load_checkpoint

STEPS = 40


def begun(configuration: Path, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "neuroseg", "train", str(configuration), "-o", str(folder)]
    return subprocess.Popen([*command, "--device", "cpu"], stderr=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def longer(configuration: Path) -> Path:
    content = yaml.safe_load(configuration.read_text())
    content["loader_workers"] = 1
    content["optimiser"]["steps"] = content["validation"]["every_steps"] = STEPS
    path = configuration.with_name("stopped.yaml")
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def uncut(longer: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """The weights of an uninterrupted training."""
    folder = tmp_path_factory.mktemp("uncut") / "run"
    assert begun(longer, folder).wait(timeout=480) == 0
    weights: dict[str, torch.Tensor] = load_checkpoint(folder / "checkpoint.pt")["network"]
    return weights


@pytest.mark.parametrize(
    "everyone",
    [
        pytest.param(False, marks=pytest.mark.long, id="its head"),
        pytest.param(True, id="each of its processes, the first twice"),
    ],
)
def test_a_training_saves_before_it_ends(
    longer: Path, uncut: dict[str, torch.Tensor], tmp_path: Path, everyone: bool
) -> None:
    """The main process gets the signal twice: from the cluster and from the job script."""
    training, log = begun(longer, tmp_path / "run"), tmp_path / "run" / "log.csv"
    deadline = time.monotonic() + 240
    while not (log.exists() and "loss/total" in log.read_text()):
        assert training.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    first = psutil.Process(training.pid)
    others = first.children(recursive=True)
    assert len(others) >= 2, "the head, and a process that makes samples"
    for process in [*reversed(others), first, first] if everyone else first.children():
        process.send_signal(signal.SIGTERM)
    assert training.wait(timeout=240) == 130
    assert not psutil.wait_procs(others, timeout=10)[1], "somebody is left"
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    assert 20 <= load_checkpoint(checkpoint)["step"] < STEPS
    assert begun(longer, tmp_path / "run").wait(timeout=480) == 0
    for name, tensor in load_checkpoint(checkpoint)["network"].items():
        assert torch.equal(tensor, uncut[name]), name

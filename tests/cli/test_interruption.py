"""Ctrl-C with real processes: a quick exit with code 130, no process left, and a rerun gives the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from neuroseg.runs import pipeline
from neuroseg.runs.options import Options
from neuroseg.storage.arrays import open_array
from neuroseg.storage.workspace import Workspace
from tests.conftest import make_volume

# The supervisor kills what has not ended after four seconds; the rest is for a machine that is busy.
_PROMPT_S = 15.0
_PATIENCE_S = 240.0


def start(arguments: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "neuroseg", *arguments]
    # A background shell ignores SIGINT, and its child processes inherit this.
    heeding = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, heeding)


def has_head(process: subprocess.Popen[str]) -> bool:
    """Whether the supervisor has started the head; before that, Python itself is still starting."""
    return Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text() != ""


def wait_until(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def processes_of(workspace: Path) -> list[str]:
    """The command lines of living processes that name the workspace, or belong to a scheduler's worker."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_text() if entry.name.isdigit() else ""
        except OSError:
            continue
        if str(workspace) in command:
            found.append(command)
    return found


def arrays(workspace: Workspace) -> dict[str, np.ndarray]:
    paths = (workspace.affinities, workspace.fragments, workspace.segmentation / "0")
    return {path.name: np.asarray(open_array(path)[:]) for path in paths}


def has_marks(workspace: Path, stage: str) -> bool:
    return bool(Workspace(workspace).ledger(stage, {}).done())


def test_an_interrupted_run_ends_quickly_and_a_rerun_gives_the_same_bytes(tiny_model: str, tmp_path: Path) -> None:
    volume, workspace = make_volume(tmp_path / "V.zarr", (64, 96, 96)), tmp_path / "V.neuroseg"
    given = {"volume": volume, "model": tiny_model, "blocks": "32,48,48"}
    run = ["run", volume, "--model", tiny_model, "--blocks", "32,48,48", "--workers", "1"]
    moments: list[tuple[signal.Signals, Callable[[subprocess.Popen[str]], bool]]] = [
        (signal.SIGINT, has_head),  # while the libraries are imported
        (signal.SIGINT, lambda process: (workspace / "logs" / "compute-0000.log").exists()),  # while workers start
        (signal.SIGTERM, lambda process: has_marks(workspace, "affinities")),  # while a block is predicted
        (signal.SIGINT, lambda process: has_marks(workspace, "edges")),  # while several stages go on
    ]
    for number, happened in moments:
        process = start(run)
        wait_until(partial(happened, process), process)
        process.send_signal(number)
        sent = time.monotonic()
        _, said = process.communicate(timeout=_PATIENCE_S)
        assert time.monotonic() - sent < _PROMPT_S
        assert process.returncode == 130, said
        assert "Traceback" not in said
        assert processes_of(workspace) == []
    assert not list(workspace.rglob("*.partial"))
    resumed, _ = pipeline.run(Options.model_validate({**given, "executor": "serial"}))
    fresh, _ = pipeline.run(
        Options.model_validate({**given, "executor": "serial", "output": str(tmp_path / "fresh.neuroseg")})
    )
    for name, array in arrays(resumed).items():
        assert np.array_equal(array, arrays(fresh)[name]), name


def test_an_interrupt_during_a_finaliser_is_raised_after_it() -> None:
    script = """
import os, signal, time
from neuroseg.cli.interruption import raise_on_interrupt

class Finalised:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)

raise_on_interrupt()
try:
    Finalised()
    time.sleep(60)
except KeyboardInterrupt:
    print("heard")
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=_PATIENCE_S)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "heard\n", "")


SUPERVISED = """
import sys, time, types
from contextlib import nullcontext
from neuroseg.cli import supervisor
from neuroseg.execution.ending import slow_to_end

def run(arguments):
    with slow_to_end() if arguments[0] == "slow" else nullcontext():
        try:
            print("begun", flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            time.sleep(2)
            print("saved", flush=True)
            raise
    return 0

sys.modules["neuroseg.cli.main"] = types.SimpleNamespace(exit_code=run)
supervisor._GRACE_S = 0.5
supervisor.main()
"""


@pytest.mark.parametrize(("arguments", "told"), [(["slow"], "saved\n"), (["quick", "train", "--executor=slurm"], "")])
def test_a_head_that_announces_a_slow_end_gets_more_time(arguments: list[str], told: str) -> None:
    heeding = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        command = [sys.executable, "-c", SUPERVISED, *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, heeding)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=_PATIENCE_S)[0] == told
    assert process.returncode == 130


def test_workers_die_with_a_killed_head_and_the_next_run_reports_it(
    tiny_model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    volume, workspace = make_volume(tmp_path / "V.zarr", (64, 96, 96)), tmp_path / "V.neuroseg"
    process = start(["run", volume, "--model", tiny_model, "--blocks", "32,48,48", "--workers", "1"])
    wait_until(lambda: has_marks(workspace, "affinities"), process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + _PROMPT_S
    while processes_of(workspace) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_of(workspace) == []
    (workspace / "ledger" / "affinities" / ".half.partial").touch()
    given = {"volume": volume, "model": tiny_model, "blocks": "32,48,48", "executor": "serial"}
    pipeline.predict(Options.model_validate(given))
    assert "was killed" in caplog.text
    assert not list(workspace.rglob("*.partial"))


@pytest.mark.long
def test_an_interrupted_verification_leaves_no_process_and_no_folder(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interrupt arrives while the run that `verify` kills, in its own process group, is active."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    volume = make_volume(tmp_path / "V.zarr", (64, 96, 96))
    process = start(["verify", volume, "--model", tiny_model, "--crop", "96", "--workers", "2"])
    wait_until(lambda: any((tmp_path / "tmp").glob("neuroseg-verify-*/cut-1.neuroseg/ledger/affinities")), process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=_PATIENCE_S)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    deadline = time.monotonic() + _PROMPT_S
    while processes_of(tmp_path / "tmp") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_of(tmp_path / "tmp") == []
    assert not list((tmp_path / "tmp").glob("neuroseg-verify-*"))


def test_debug_shows_the_traceback_and_the_message(tmp_path: Path) -> None:
    plain, debug = start(["info", str(tmp_path / "no.zarr")]), start(["info", str(tmp_path / "no.zarr"), "--debug"])
    said, traced = plain.communicate()[1], debug.communicate()[1]
    assert (plain.returncode, debug.returncode) == (2, 2)
    assert said == f"error: {tmp_path}/no.zarr does not exist\n"
    assert "Traceback" in traced
    assert traced.endswith(said)

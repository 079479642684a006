"""A controller that is busy, loses answers or prints banners. Scripts replace SLURM's commands."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from neuroseg.errors import NeurosegError
from neuroseg.execution.cluster import slurm_commands
from neuroseg.execution.cluster.slurm_commands import BusyError, cancel, count_active, first_pending, submit

TIMED_OUT = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
# Does what the first line of its plan says and removes that line: WHAT|text. The number of calls is counted.
SCRIPT = """#!/bin/bash
cd {folder}
echo "$@" >> {name}.calls
line=$(head -n 1 {name}.plan); sed -i 1d {name}.plan
text=${{line#*|}}
case ${{line%%|*}} in
    print) printf "$text" ;;
    fail) echo "$text" >&2; exit 1 ;;
    lose) echo "$text" >> queue; echo "{timed_out}" >&2; exit 1 ;;
    hang) exec sleep 60 ;;
    *) [ {name} = squeue ] && cat queue ;;
esac
exit 0
"""

Plan = Callable[..., None]


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Plan the next calls of a command. Without a plan, squeue prints the file `queue`."""
    monkeypatch.setattr(slurm_commands, "_SUBMIT_PAUSES_S", (0.0, 0.01, 0.01, 0.01))
    monkeypatch.setattr(slurm_commands, "_CANCEL_PAUSES_S", (0.0, 0.01))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "queue").touch()
    for name in ("sbatch", "squeue", "scancel"):
        (tmp_path / f"{name}.plan").touch()
        (tmp_path / f"{name}.calls").touch()
        (tmp_path / name).write_text(SCRIPT.format(folder=tmp_path, name=name, timed_out=TIMED_OUT))
        (tmp_path / name).chmod(0o755)

    def planned(name: str, *lines: str) -> None:
        (tmp_path / f"{name}.plan").write_text("".join(f"{line}\n" for line in lines))

    return planned


def calls(folder: Path, name: str = "sbatch") -> int:
    return len((folder / f"{name}.calls").read_text().splitlines())


def submitted(over: threading.Event | None = None, known: tuple[str, ...] = ()) -> str | None:
    return submit(["sbatch", "worker.sh"], "neuroseg-a", known, over or threading.Event())


@pytest.mark.parametrize(
    "complaint",
    [
        TIMED_OUT,
        "sbatch: error: Unable to contact slurm controller (connect failure)",
        "sbatch: error: Batch job submission failed: Resource temporarily unavailable",
    ],
)
def test_a_busy_controller_is_asked_again(plan: Plan, tmp_path: Path, complaint: str) -> None:
    plan("sbatch", f"fail|{complaint}", f"fail|{complaint}", "print|17\\n")
    assert submitted() == "17"
    assert calls(tmp_path) == 3


def test_a_submission_whose_answer_was_lost_is_not_repeated(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "queue").write_text("neuroseg|16\n")
    plan("sbatch", "lose|neuroseg|17")
    assert submitted(known=("16",)) == "17"
    assert calls(tmp_path) == 1


def test_while_the_queue_is_not_known_nothing_is_submitted_again(plan: Plan, tmp_path: Path) -> None:
    plan("sbatch", "lose|neuroseg|17")
    plan("squeue", f"fail|{TIMED_OUT}", f"fail|{TIMED_OUT}")
    assert submitted() == "17"
    assert (calls(tmp_path), calls(tmp_path, "squeue")) == (1, 3)


def test_what_slurm_refuses_is_not_asked_again(plan: Plan, tmp_path: Path) -> None:
    plan("sbatch", "fail|sbatch: error: invalid partition specified: nowhere")
    with pytest.raises(NeurosegError, match="invalid partition specified: nowhere"):
        submitted()
    assert calls(tmp_path) == 1


def test_a_controller_that_never_answers_ends_the_run(plan: Plan, tmp_path: Path) -> None:
    plan("sbatch", *[f"fail|{TIMED_OUT}"] * 9)
    with pytest.raises(NeurosegError, match=r"(?s)Socket timed out.*tried 4 times"):
        submitted()
    assert calls(tmp_path) == 4


@pytest.mark.parametrize(
    "said",
    ["17\\n", "17;cluster\\n", "*** Welcome to job 5! ***\\n17\\nmodules loaded: 3\\n", "  17;c1  \\n"],
)
def test_a_banner_is_no_number(plan: Plan, said: str) -> None:
    plan("sbatch", f"print|{said}")
    assert submitted() == "17"


def test_a_number_that_cannot_be_read_is_asked_of_the_queue(plan: Plan, tmp_path: Path) -> None:
    for said in ("Submitted batch job 17 on cluster c1\\n", "2026\\n17\\n", ""):
        (tmp_path / "queue").write_text("Welcome!\nneuroseg|9\nneuroseg|17\nneuroseg|17\n\n")
        plan("sbatch", f"print|{said}")
        assert submitted(known=("9",)) == "17"
    (tmp_path / "queue").write_text("Welcome!\n5\n")
    plan("sbatch", "print|Welcome!\\n")
    with pytest.raises(NeurosegError, match=r"printed no job id.*Welcome!"):
        submitted()


def test_tasks_are_counted_without_the_banner(plan: Plan, tmp_path: Path) -> None:
    listed = ["RUNNING|None", "PENDING|Priority", "PENDING|JobHeldUser", "COMPLETED|None"]
    (tmp_path / "queue").write_text("Quota: 3 of 4 TB|used\n" + "".join(f"neuroseg|{line}\n" for line in listed))
    assert count_active("neuroseg-a") == 2
    (tmp_path / "queue").write_text("Quota: 3 of 4 TB\nneuroseg|17_1 PENDING (Priority)\n")
    assert first_pending("neuroseg-a") == "17_1 PENDING (Priority)"
    plan("squeue", f"fail|{TIMED_OUT}")
    assert count_active("neuroseg-a") is None


def test_cancelling_is_tried_again(plan: Plan, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plan("scancel", f"fail|{TIMED_OUT}")
    cancel("neuroseg-a")
    assert calls(tmp_path, "scancel") == 2
    assert caplog.text == ""
    plan("scancel", "fail|scancel: error: Access denied")
    cancel("neuroseg-a")
    assert calls(tmp_path, "scancel") == 3
    assert "cannot cancel jobs named neuroseg-a" in caplog.text


@pytest.mark.parametrize("how", ["hang|", f"fail|{TIMED_OUT}"])
def test_ctrl_c_ends_the_waiting(plan: Plan, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr(slurm_commands, "_SUBMIT_PAUSES_S", (0.0, 60.0))
    plan("sbatch", how)
    over, began = threading.Event(), time.monotonic()
    threading.Timer(0.3, over.set).start()
    assert submitted(over) is None
    assert time.monotonic() - began < 10


def test_a_command_that_hangs_is_a_busy_controller(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_commands, "_COMMAND_TIMEOUT_S", 0.3)
    plan("sbatch", "hang|", "print|17\\n")
    assert submitted() == "17"
    assert issubclass(BusyError, NeurosegError)

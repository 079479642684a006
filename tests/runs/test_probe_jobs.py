"""Probes in jobs of a real SLURM and a real Dask cluster: each stage is measured by jobs of its own kind."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from neuroseg.cli.main import exit_code
from neuroseg.cli.plan import plan_lines
from neuroseg.errors import NeurosegError
from neuroseg.execution.channel import Channel
from neuroseg.execution.cluster.program import Program
from neuroseg.execution.cluster.site import Site
from neuroseg.runs.kind_of_probes import KindOfProbes
from neuroseg.runs.options import Options
from neuroseg.runs.plan import Plan
from neuroseg.runs.probe_jobs import kinds_of
from neuroseg.runs.probe_processes import measure_and_write
from neuroseg.runs.resolve import plan_of_run
from neuroseg.storage.workspace import Workspace
from tests.conftest import make_volume
from tests.execution.cluster.test_dask import dask
from tests.execution.cluster.test_slurm import said, wait_until
from tests.execution.clusters import needs_dask, needs_slurm
from tests.runs.test_probing import make_affinities

__all__ = ["dask"]
TWO_KINDS = "default: {partition: cpu}\nstages: {affinities: {partition: gpu, workers: 3}}\n"


@pytest.fixture
def planned(tmp_path: Path) -> tuple[Workspace, Plan]:
    source = make_affinities(tmp_path / "A.zarr")
    workspace, plan, _ = plan_of_run(
        Options(affinities=source, output=str(tmp_path / "w"), blocks="24", executor="slurm", workers=2)
    )
    return workspace, plan


def test_only_kinds_that_the_plan_uses_are_measured(
    planned: tuple[Workspace, Plan], raw_volume: str, tiny_model: str, tmp_path: Path
) -> None:
    site = Site.model_validate({"stages": {"affinities": {"gpus": 1}, "sections": {"time": "1"}}})
    workspace, plan = planned
    later = ("fragments", "edges", "agglomeration", "lookup", "relabel")
    assert kinds_of(plan, workspace, site) == {"compute-fragments": later}
    options = Options(volume=raw_volume, model=tiny_model, output=str(tmp_path / "r"), blocks="16", executor="slurm")
    workspace, plan, _ = plan_of_run(options)
    found = kinds_of(plan, workspace, site)
    assert (found.keys(), found["predict"]) == ({"predict", "compute-fragments"}, ("affinities",))
    assert kinds_of(plan, workspace, Site()).keys() == {"compute"}


class Queue:
    """Jobs that never start. The number of active ones is given."""

    def __init__(self, active: int) -> None:
        self.active, self.reason = active, ""

    def submit(self, count: int, over: threading.Event) -> None:
        self.active = count

    def count_active(self) -> int | None:
        return self.active

    def pending_reason(self) -> str:
        return self.reason

    def log_tail(self) -> str:
        return ""

    def cancel(self, job: str) -> None:
        raise AssertionError("no single job is cancelled")

    def cancel_all(self, *, force: bool) -> None:
        self.active = 0


class Heard(Channel):
    """The head's end of a connection. It keeps what the head sends."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def send(self, message: Any) -> None:
        self.sent.append(message)


def kind_of(plan: Plan, folder: Path, blocks: Sequence[int]) -> tuple[KindOfProbes, Queue]:
    jobs = Queue(len(blocks))
    program = Program("module", folder, folder / "logs", "token", "head:1", "compute")
    program.logs.mkdir()
    return KindOfProbes(program, ["edges"], plan, jobs, blocks, folder / "kept.log"), jobs


def test_a_block_whose_job_is_gone_is_given_again(planned: tuple[Workspace, Plan], tmp_path: Path) -> None:
    kind, _ = kind_of(planned[1], tmp_path, [5, 7])
    one, other, third, fourth = (Heard() for _ in range(4))
    assert kind.assign(one)
    assert kind.assign(other)
    assert not kind.assign(third), "each block has a job"
    kind.lose(one)
    assert kind.assign(fourth)
    tasks = [job.sent[0] for job in (one, other, fourth)]
    assert [task["block"] for task in tasks] == [5, 7, 5]
    assert tasks[0]["folder"] != tasks[2]["folder"], "what the lost job wrote is not used"
    for job, task in ((fourth, tasks[2]), (other, tasks[1])):
        measure_and_write(Path(task["folder"]), task["block"])
        kind.finish(job)
    kind.lose(fourth)  # it exits
    assert kind.missing == 0
    assert [probe.block for probe in kind.result().probes] == [5, 7]
    assert kind.result().kind == "compute"


def test_missing_jobs_are_an_error_with_the_log(planned: tuple[Workspace, Plan], tmp_path: Path) -> None:
    kind, jobs = kind_of(planned[1], tmp_path, [5, 7])
    (tmp_path / "logs" / "compute-1_0.log").write_text("the disk broke\n")
    kind.check(1.0)
    jobs.active = 1
    kind.check(2.0)
    kind.check(4.0)
    jobs.active = 2
    kind.check(6.0)  # the cluster has started it again
    jobs.active = 1
    kind.check(10.0)
    with pytest.raises(NeurosegError, match=r"kind compute \(edges\) failed.*\n.*the disk broke") as raised:
        kind.check(14.0)
    assert f"{tmp_path / 'kept.log'} ends with" in str(raised.value)
    assert "omit --probe-jobs" in raised.value.hint
    assert (tmp_path / "kept.log").read_text() == "the disk broke\n"


def test_a_long_queue_is_explained(
    planned: tuple[Workspace, Plan], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kind, jobs = kind_of(planned[1], tmp_path, [5])
    jobs.reason = "1_0 PENDING (Priority)"
    for waited_s in (1.0, 21.0, 30.0):
        kind.check(waited_s)
    assert [each.getMessage() for each in caplog.records] == [
        "the probes of kind compute are waiting in the queue: 1_0 PENDING (Priority)"
    ]
    error = kind.give_up(30.0)
    assert "1 of 1 jobs have no result after 30 s; 1_0 PENDING (Priority)" in str(error)
    assert "--probe-wait" in error.hint


def given(tmp_path: Path, model: str, site: str, *more: str) -> list[str]:
    """The arguments of a plan in a folder of its own."""
    (tmp_path / "lab.yaml").write_text(site)
    volume = make_volume(tmp_path / "V.zarr", (40, 40, 40))
    return ["plan", volume, "--model", model, "--blocks", "32", "--cluster", str(tmp_path / "lab.yaml"),
            "--probe-jobs", *more]  # fmt: skip


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"lab.yaml", "V.zarr"}


def queue() -> str:
    return said("squeue", "--noheader")


@pytest.mark.long
@needs_slurm
def test_each_kind_of_slurm_job_measures_its_stages(
    tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(given(tmp_path, tiny_model, TWO_KINDS, "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    rows = {row["stage"]: row for row in found["stages"]}
    assert rows["affinities"]["kind"] == "predict"
    assert {rows[name]["kind"] for name in rows if name != "affinities"} == {"compute"}
    assert all(set(row["hosts"]) <= {"node1", "node2"} and row["hosts"] for row in rows.values())
    assert len(found["probed_blocks"]) == 3
    text = "\n".join(plan_lines(found))
    assert "measured affinities in jobs of kind predict: node" in text
    assert "measured fragments, edges, agglomeration, lookup, relabel in jobs of kind compute: node" in text
    assert left_in(tmp_path) == {"V.plan.json"}
    assert queue() == ""


@pytest.mark.long
@needs_slurm
@pytest.mark.parametrize(
    ("site", "message", "log"),
    [
        ("activate: exit 3", "kind compute (affinities, fragments", "it ended the job with exit code 3"),
        (TWO_KINDS.replace("gpu", "nowhere"), "kind predict (affinities) failed", ""),
        ("python: /no/such/python", "kind compute", "No such file"),
    ],
)
def test_jobs_that_fail_are_named(
    tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], site: str, message: str, log: str
) -> None:
    assert exit_code(given(tmp_path, tiny_model, site)) == 1
    err = capsys.readouterr().err
    assert message in err
    assert log in err
    assert "omit --probe-jobs" in err
    assert left_in(tmp_path) == ({"V.plan.log"} if log else set())
    assert not log or log in (tmp_path / "V.plan.log").read_text()
    assert queue() == ""


@pytest.mark.long
@needs_slurm
def test_a_cancelled_job_is_noticed(tiny_model: str, tmp_path: Path) -> None:
    plan = started(given(tmp_path, tiny_model, TWO_KINDS))
    wait_until(lambda: "R" in said("squeue", "--noheader", "--format=%t").split())
    first = said("squeue", "--noheader", "--array", "--states=RUNNING", "--format=%i").split()[0]
    said("scancel", first)
    _, err = plan.communicate(timeout=300)
    assert plan.returncode == 1
    assert "a job ended without a result" in err
    assert queue() == ""


@pytest.mark.long
@needs_slurm
def test_a_job_that_is_requeued_measures_again(tiny_model: str, tmp_path: Path) -> None:
    plan = started(given(tmp_path, tiny_model, "default: {partition: cpu}\n"))
    wait_until(lambda: list(tmp_path.glob(".V.neuroseg-plan-*/compute-*/plan.json")))
    first = said("squeue", "--noheader", "--array", "--states=RUNNING", "--format=%i").split()[0]
    said("scontrol", "requeue", first)
    # A requeued job waits for two minutes, and must not begin in the very second that it ended in.
    time.sleep(3)
    said("scontrol", "update", f"JobId={first}", "StartTime=now")
    _, err = plan.communicate(timeout=300)
    assert plan.returncode == 0, err
    assert left_in(tmp_path) == {"V.plan.json"}


@pytest.mark.long
@needs_slurm
@pytest.mark.parametrize("is_killed", [False, True])
def test_an_interrupted_plan_leaves_no_jobs(tiny_model: str, tmp_path: Path, is_killed: bool) -> None:
    with started(given(tmp_path, tiny_model, TWO_KINDS)) as plan:
        wait_until(lambda: list(tmp_path.glob(".V.neuroseg-plan-*/*-*-1/plan.json")))
        if is_killed:
            said("pkill", "-KILL", "-P", str(plan.pid))  # the head; the supervisor reports it
        else:
            plan.terminate()
        plan.wait(60)
    wait_until(lambda: queue() == "")
    if not is_killed:
        assert left_in(tmp_path) == set()


def started(arguments: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "neuroseg", *arguments], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )


@needs_dask
def test_each_kind_of_dask_task_measures_its_stages(
    tiny_model: str,
    tmp_path: Path,
    dask: tuple[str, list[subprocess.Popen[bytes]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "plan"
    folder.mkdir()
    site = 'stages: {affinities: {memory: "2G"}}'
    arguments = given(folder, tiny_model, site, "--executor", "dask", "--dask-address", dask[0], "--json")
    assert exit_code(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["stage"]: row["kind"] for row in found["stages"]} == {
        row["stage"]: "predict" if row["stage"] == "affinities" else "compute" for row in found["stages"]
    }
    assert left_in(folder) == {"V.plan.json"}


@needs_dask
def test_a_dask_cluster_without_the_resource_is_given_up(
    tiny_model: str,
    tmp_path: Path,
    dask: tuple[str, list[subprocess.Popen[bytes]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "plan"
    folder.mkdir()
    site = "stages: {affinities: {gpus: 2}}"  # each worker has one
    began = time.monotonic()
    arguments = given(folder, tiny_model, site, "--executor", "dask", "--dask-address", dask[0], "--probe-wait", "5")
    assert exit_code(arguments) == 1
    assert time.monotonic() - began < 60
    err = capsys.readouterr().err
    assert "kind predict (affinities) failed: 3 of 3 jobs have no result after 5 s; no Dask worker offers GPU=2" in err
    assert left_in(folder) == set()

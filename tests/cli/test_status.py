"""`neuroseg status`: stages and workers, read from the ledger."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from neuroseg.blocks import Block
from neuroseg.checks.run_state import recent_rate, state_of, worker_rows
from neuroseg.cli.main import exit_code
from neuroseg.storage.done_table import DoneRecords, DoneTable
from neuroseg.storage.ledger import StageLedger
from neuroseg.storage.workspace import Workspace


def records(*made: tuple[float, dict[str, Any]]) -> DoneRecords:
    """Blocks that took 2 s for 4 Mvoxel, from the times when they were done and what differs from a usual block."""
    table = DoneTable()
    about = {"host": "a", "process": 1, "job": None, "device": "cpu", "peak_mib": 100, "seconds": 2.0}
    for number, (time, more) in enumerate(made):
        block = more.get("block", number)
        table.add(block, "9f2c", [], 0, {"voxels": 4_000_000, **about, **more, "time": time})
    return table.records()


def test_the_rate_counts_only_the_last_minutes() -> None:
    assert recent_rate(records()) is None
    # Two blocks of 4 Mvoxel from 998 to 1004, and one from long before.
    assert recent_rate(records((10.0, {}), (1000.0, {}), (1004.0, {}))) == pytest.approx(8 / 6)


def test_only_workers_of_the_last_minutes_are_shown() -> None:
    made = {
        "fragments": records((100.0, {}), (5000.0, {"block": 1}), (5001.0, {"block": 2, "process": 2, "job": "7"})),
        "edges": records((5010.0, {"block": 3, "peak_mib": 200}), (5011.0, {"block": 0, "host": "b"})),
    }
    rows = worker_rows(made, now=5020.0)
    assert [(row["host"], row["process"], row["blocks"]) for row in rows] == [("a", 1, 2), ("a", 2, 1), ("b", 1, 1)]
    assert (rows[0]["stage"], rows[0]["block"], rows[0]["peak_mib"], rows[0]["seconds_ago"]) == ("edges", 3, 200, 10.0)
    assert rows[1]["job"] == "7"


def test_blocks_of_an_unknown_process_are_no_worker() -> None:
    assert worker_rows({"edges": records((5000.0, {"host": None}))}, now=5020.0) == []


def test_a_run_and_its_workers_are_shown(
    raw_volume: str, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = str(tmp_path / "w")
    command = ["run", raw_volume, "--model", tiny_model, "-o", where, "--blocks", "32", "--executor", "serial"]
    assert exit_code(command) == 0
    capsys.readouterr()
    assert exit_code(["status", where, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["left"] for row in found["stages"]] == [0] * len(found["stages"])
    assert [row["running"] for row in found["stages"]] == [0] * len(found["stages"])
    (worker,) = found["workers"]
    assert worker["device"] == "cpu"
    assert worker["blocks"] == sum(row["done"] for row in found["stages"])
    assert exit_code(["status", where, "--watch"]) == 0
    told = capsys.readouterr().out
    assert f"{worker['host']}:{worker['process']}" in told
    assert "overall" in told


def test_running_blocks_are_counted_during_a_run(
    raw_volume: str, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where, seen = str(tmp_path / "w"), []
    complete = StageLedger.mark_done

    def looked_at(ledger: StageLedger, block: Block, *more: Any) -> None:
        capsys.readouterr()
        assert exit_code(["status", where, "--json"]) == 0
        stages = json.loads(capsys.readouterr().out)["stages"]
        seen.append({row["stage"]: row["running"] for row in stages if row["running"]})
        complete(ledger, block, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StageLedger, "mark_done", looked_at)
        command = ["predict", raw_volume, "--model", tiny_model, "-o", where, "--blocks", "32", "--executor", "serial"]
        assert exit_code(command) == 0
    assert seen == [{"affinities": 1}] * 8
    Workspace(tmp_path / "w").ledger("affinities", {}).mark_begun(Block(3, *[((0, 8),) * 3] * 2))
    capsys.readouterr()
    assert exit_code(["status", where, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["stages"][0]["running"] == 0, (
        "no process holds the workspace: the run was cut off"
    )


def row(stage: str, *, left: int = 0, failed: int = 0, begun: bool = True) -> dict[str, Any]:
    return {"stage": stage, "left": left, "failed": failed, "begun": begun}


def state(*rows: dict[str, Any], worked_on: bool = False, published: bool = False) -> str:
    return state_of(rows, is_in_use=worked_on, is_published=published)


def test_a_run_between_two_stages_is_running() -> None:
    between = [row("fragments"), row("edges", left=8, begun=False)]
    assert state(*between, worked_on=True) == "running"
    assert state(*between) == "stopped", "its head was killed"
    assert state(row("fragments"), row("edges"), worked_on=True) == "running", "it is publishing the segmentation"
    assert state(row("fragments"), row("edges")) == "stopped"
    assert state(row("fragments"), row("edges"), published=True) == "done"


def test_a_prediction_is_done_without_a_segmentation() -> None:
    unsegmented = row("fragments", left=8, begun=False)
    assert state(row("affinities"), unsegmented) == "done"
    assert state(row("sections"), row("affinities", left=8, begun=False), unsegmented) == "stopped"
    assert state(row("affinities"), row("fragments", left=3, failed=1)) == "failed"
    assert state(row("fragments", left=8, begun=False)) == "stopped", "nothing was begun"


def test_watch_continues_until_the_run_ends(
    raw_volume: str,
    tiny_model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where = str(tmp_path / "w")
    command = ["predict", raw_volume, "--model", tiny_model, "-o", where, "--blocks", "48", "--executor", "serial"]
    assert exit_code(command) == 0
    looks: list[float] = []

    def next_look(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            holding.close()

    monkeypatch.setattr("neuroseg.cli.status.time.sleep", next_look)
    with ExitStack() as holding:
        holding.enter_context(Workspace(Path(where)).locked())
        assert exit_code(["status", where, "--watch"]) == 0
    assert len(looks) == 3, "all begun stages are done, but the run is not"
    Workspace(tmp_path / "w").ledger("affinities", {}).clear([Block(0, *[((0, 8),) * 3] * 2)])
    capsys.readouterr()
    assert exit_code(["status", where, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["state"], found["stages"][0]["seconds_left"]) == ("stopped", None)
    assert exit_code(["status", where, "--watch"]) == 1
    assert "not running" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "V.zarr"], "interrupted\nhint: run the same command again to resume\n"),
        (["--debug", "train", "a.yaml"], "interrupted\nhint: run the same command again to resume\n"),
        (["status", "run", "--watch"], "interrupted\n"),
        (["evaluate", "W"], "interrupted\n"),
        (["import", "run"], "interrupted\n"),
    ],
)
def test_only_commands_that_resume_give_the_hint(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*given: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("neuroseg.cli.main.app", interrupted)
    assert exit_code(arguments) == 130
    assert capsys.readouterr().err == told


def test_blocks_with_the_same_cause_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    from neuroseg.cli.status import _print_stages

    causes = {index: f"stage edges, block {index} (0:{index}): voxel {index} is nan" for index in range(17136)}
    row = {
        "stage": "edges", "done": 0, "running": 0, "failed": 17136, "left": 17136, "seconds_left": None,
        "mvoxel_per_s": None, "overall_mvoxel_per_s": None, "failures": causes,
    }  # fmt: skip
    _print_stages("w", [row])
    told = capsys.readouterr().out
    assert told.count("is nan") == 1
    assert "(and 17135 more: 1, 2, 3, 4, 5, ...)" in told
    assert "neuroseg replay w edges 0" in told

"""`neuroseg plan`: what it prints and stores, and the summary of the run that follows."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
import zarr

from neuroseg.cli.main import exit_code
from neuroseg.cli.plan import plan_lines
from neuroseg.cli.summary import about_plan, duration
from neuroseg.execution.block import own_host
from tests.conftest import make_volume

pytestmark = pytest.mark.xdist_group("plan")  # they share a plan


@pytest.fixture(scope="module")
def planned(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path, dict[str, Any]]:
    """The arguments of a planned run, the folder of its volume, and the plan as JSON."""
    folder = tmp_path_factory.mktemp("planned")
    volume = make_volume(folder / "V.zarr", (40, 70, 90))
    given = [volume, "--model", tiny_model, "--blocks", "32", "--executor", "serial"]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert exit_code(["plan", *given, "--price", "core_hour=3600", "--json"]) == 0
    return given, folder, json.loads(printed.getvalue())


def test_a_plan_prints_stages_totals_and_cost(planned: tuple[list[str], Path, dict[str, Any]]) -> None:
    _, folder, found = planned
    assert [row["stage"] for row in found["stages"]][:3] == ["affinities", "fragments", "edges"]
    assert found["stages"][0]["blocks"] == 2 * 3 * 3
    assert [row["cost"] for row in found["stages"]] == pytest.approx(
        [3600 * row["core_hours"] for row in found["stages"]]
    )
    assert found["cost"] == pytest.approx(3600 * found["core_hours"])
    assert {(row["kind"], *row["hosts"]) for row in found["stages"]} == {("", own_host())}
    sizes = found["disk_bytes"]
    temporary = sizes["provisional.zarr"] + sizes["entries"]
    before = temporary + sum(sizes[name] for name in ("affinities.zarr", "fragments.zarr", "edges", "nodes"))
    assert found["peak_disk_bytes"] == max(before, sum(sizes.values()) - temporary)
    assert found["seconds"] > 0
    assert len(found["probed_blocks"]) == 3
    assert found["plan"] == str(folder / "V.plan.json")
    text = "\n".join(plan_lines(found))
    measured = f"all stages on this machine: {own_host()}"
    for word in ("affinities", "core-hours", "disk affinities.zarr", "MiB a worker", "cost", "V.plan.json", measured):
        assert word in text
    head, first = text.splitlines()[:2]
    assert (head.split()[-1], first.split()[-1]) == ("cost", f"{found['stages'][0]['cost']:.2f}")
    assert "jobs" not in text


def test_the_run_is_compared_with_its_plan(
    planned: tuple[list[str], Path, dict[str, Any]], capfd: pytest.CaptureFixture[str]
) -> None:
    given, folder, _ = planned
    # A plan leaves only its estimate beside the volume.
    assert sorted(path.name for path in folder.iterdir()) == ["V.plan.json", "V.zarr"]
    assert exit_code(["run", *given, "--no-report", "--json"]) == 0
    out = capfd.readouterr().out
    found = json.loads(out[out.index("{") :])["plan"]
    assert abs(found["disk_bytes"]["percent"]) < 25
    assert found["seconds"]["taken"] > 0
    assert exit_code(["run", *given, "--no-report"]) == 0  # nothing left to do
    assert "plan:" not in capfd.readouterr().err


def test_the_summary_says_how_far_the_plan_was_off() -> None:
    rows = {
        "seconds": {"planned": 190.0, "taken": 205.0, "percent": 7.9},
        "disk_bytes": {"planned": 2e6, "taken": 1.8e6, "percent": -10.0},
        "worker_peak_mib": {"planned": 300, "taken": 300, "percent": 0.0},
        "head_peak_mib": {"planned": 100, "taken": 90, "percent": -10.0},
    }
    assert about_plan(rows) == (
        "plan: 3:10, took 3:25 (8 % more); disk 2.0 MB, took 1.8 MB (10 % less); "
        "memory of a worker 300 MiB, took 300 MiB (0 % more), of the head 100 MiB, took 90 MiB (10 % less)"
    )
    del rows["disk_bytes"]
    assert "disk" not in about_plan(rows)


def test_a_run_without_a_plan_is_not_compared(
    planned: tuple[list[str], Path, dict[str, Any]], capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given, _, _ = planned
    assert exit_code(["run", *given, "-o", str(tmp_path / "w.neuroseg"), "--no-report"]) == 0
    assert "plan:" not in capfd.readouterr().err


@pytest.mark.parametrize("price", ["core_hour", "cpu_hour=1", "gpu_hour=cheap", "gpu_hour=-1", "gpu_hour=inf"])
def test_a_wrong_price_is_refused(price: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["plan", "V.zarr", "--price", price]) == 2
    assert "is not a price" in capfd.readouterr().err


def test_jobs_that_measure_need_a_cluster(
    planned: tuple[list[str], Path, dict[str, Any]], capfd: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(["plan", *planned[0], "--probe-jobs"]) == 2
    assert "--probe-jobs needs a cluster, but --executor is serial" in capfd.readouterr().err


def test_no_gpus_are_refused(capfd: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["plan", "V.zarr", "--gpus", "0"]) == 2
    assert "--gpus 0" in capfd.readouterr().err


def test_a_mask_without_voxels_is_refused(
    planned: tuple[list[str], Path, dict[str, Any]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given, _, _ = planned
    mask = make_volume(tmp_path / "M.zarr", (40, 70, 90))
    zarr.open_array(mask, mode="r+")[:] = 0
    assert exit_code(["plan", *given, "--mask", mask, "-o", str(tmp_path / "w")]) == 2
    assert "has no voxel" in capfd.readouterr().err


def test_affinities_need_a_workspace(capfd: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["plan", "--affinities", "A.zarr"]) == 2
    assert "pass -o WORKSPACE" in capfd.readouterr().err


def test_a_huge_volume_is_planned_without_listing_its_blocks(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, shape = str(tmp_path / "huge.zarr"), (3, *(100_000,) * 3)
    attributes = {"voxel_size": [10, 10, 10], "offsets": [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]}
    zarr.create_array(path, shape=shape, dtype="u1", chunks=(3, 64, 64, 64), attributes=attributes)
    given = ["--affinities", path, "-o", str(tmp_path / "w"), "--blocks", "64", "--executor", "serial", "--force"]
    assert exit_code(["plan", *given, "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["stages"][0]["blocks"] == (-(-100_000 // 64)) ** 3
    assert any("disk" in each for each in found["advice"])


def test_durations_have_hours_and_days() -> None:
    assert [duration(each) for each in (0, 190.4, 3600, 7405)] == ["0:00", "3:10", "1:00:00", "2:03:25"]
    assert duration(10 * 86400) == "10.0 days"

"""The estimate of a run lies beside its workspace, and only a run with the same settings is compared with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuroseg.runs.estimate import Estimate, Setting, estimated
from neuroseg.runs.plan import Plan
from neuroseg.runs.stages import StageSummary
from neuroseg.runs.stored_estimate import Deviation, deviations, estimate_path, read_estimate, write_estimate
from neuroseg.storage.naming import is_unused
from neuroseg.storage.workspace import Workspace
from tests.runs.test_estimate import planned, probed_once

__all__ = ["planned"]


@pytest.fixture
def stored(planned: tuple[Workspace, Plan]) -> Estimate:
    workspace, plan = planned
    estimate = estimated(plan, workspace, probed_once(workspace, plan), Setting())
    write_estimate(workspace, plan, estimate)
    return estimate


def ran(estimate: Estimate, **more: int) -> list[StageSummary]:
    """The summary of a run that processed every block."""
    return [StageSummary(row.stage, row.blocks, 1, 1.0, 300, **more) for row in estimate.stages]


def test_the_estimate_lies_beside_the_workspace(planned: tuple[Workspace, Plan], stored: Estimate) -> None:
    workspace, plan = planned
    assert estimate_path(Workspace(Path("a/V.neuroseg"))) == Path("a/V.plan.json")
    assert estimate_path(workspace) == workspace.path.with_name("w.plan.json")
    assert estimate_path(workspace).is_file()
    assert is_unused(workspace.path)
    assert read_estimate(workspace, plan) == stored


@pytest.mark.parametrize(
    ("name", "value"),
    [("blocks", (16, 24, 24)), ("scoring", "quantile:50"), ("workers", 77), ("roi", "0:24,0:64,0:80")],
)
def test_other_settings_have_no_estimate(
    planned: tuple[Workspace, Plan], stored: Estimate, name: str, value: object
) -> None:
    workspace, plan = planned
    assert read_estimate(workspace, plan.model_copy(update={name: value})) is None


def test_another_threshold_has_the_same_estimate(planned: tuple[Workspace, Plan], stored: Estimate) -> None:
    workspace, plan = planned
    assert read_estimate(workspace, plan.model_copy(update={"threshold": 0.9})) == stored


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"settings": "x", "estimate": {}}'])
def test_a_damaged_estimate_counts_as_none(planned: tuple[Workspace, Plan], stored: Estimate, content: str) -> None:
    workspace, plan = planned
    estimate_path(workspace).write_text(content)
    assert read_estimate(workspace, plan) is None


def test_an_estimate_of_another_version_counts_as_none(planned: tuple[Workspace, Plan], stored: Estimate) -> None:
    workspace, plan = planned
    path = estimate_path(workspace)
    path.write_text(path.read_text().replace('"peak_disk_bytes"', '"disk"'))
    assert read_estimate(workspace, plan) is None


def test_deviations_compare_time_disk_and_memory(planned: tuple[Workspace, Plan], stored: Estimate) -> None:
    workspace, plan = planned
    found = deviations(stored, plan.stages(workspace), ran(stored), workspace, 1.1 * stored.seconds)
    assert found["seconds"].percent == pytest.approx(10)
    assert found["worker_peak_mib"].taken == 300
    assert found["disk_bytes"].taken == 0  # the ledger is empty
    assert Deviation(0, 5).percent == 0


def test_a_resumed_run_is_not_compared(planned: tuple[Workspace, Plan], stored: Estimate) -> None:
    workspace, plan = planned
    part = [StageSummary(each.stage, 1, 1, 1.0, 300) for each in ran(stored)]
    assert deviations(stored, plan.stages(workspace), part, workspace, 1.0) == {}


def test_disk_is_compared_only_if_both_delete_affinities(planned: tuple[Workspace, Plan], stored: Estimate) -> None:
    workspace, plan = planned
    found = deviations(stored, plan.stages(workspace), ran(stored, peak_disk_bytes=9), workspace, 1.0)
    assert "disk_bytes" not in found
    streamed = stored.model_copy(update={"is_streamed": True})
    found = deviations(streamed, plan.stages(workspace), ran(stored, peak_disk_bytes=9), workspace, 1.0)
    assert found["disk_bytes"].taken == 9 * (len(stored.stages) - 1), "fragments are removed before the last stages"

"""The stages that share workers: prediction has its own workers on GPUs, but not on CPUs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from neuroseg.execution.block import ledger_of
from neuroseg.execution.cluster.site import STAGES, Cluster, Site, site_named
from neuroseg.execution.serial import SerialExecutor
from neuroseg.execution.task import Task
from neuroseg.execution.workers import WorkersExecutor
from neuroseg.runs.executors import Executors
from neuroseg.runs.options import Options
from neuroseg.runs.plan import Plan
from neuroseg.runs.resolve import plan_of_run
from neuroseg.storage.workspace import Workspace


@pytest.fixture
def planned(raw_volume: str, tiny_model: str, tmp_path: Path) -> tuple[Workspace, Plan]:
    given = {"volume": raw_volume, "model": tiny_model, "output": str(tmp_path / "w"), "blocks": "16", "workers": 2}
    workspace, plan, _ = plan_of_run(Options.model_validate(given))
    return workspace, plan


def kinds(workspace: Workspace, plan: Plan, cluster: Cluster | None = None) -> dict[str, str]:
    executors = Executors(workspace, plan, plan.stages(workspace), cluster or Cluster())
    return {stage.name.split("-")[0]: executors._kind(stage) for stage in plan.stages(workspace)}


@pytest.mark.parametrize(("device", "predicting"), [("cpu", "compute"), ("cuda", "predict"), ("cuda:1", "predict")])
def test_on_this_machine(planned: tuple[Workspace, Plan], device: str, predicting: str) -> None:
    workspace, plan = planned
    found = kinds(workspace, plan.model_copy(update={"device": device}))
    assert found.pop("affinities") == predicting
    assert set(found.values()) == {"compute"}


SITES = [
    ({}, "compute", {"compute"}),
    ({"stages": {"affinities": {"gpus": 1}}}, "predict", {"compute"}),
    ({"stages": {"affinities": {"gpus": 1}, "edges": {"memory": "32G"}}}, "predict", {"compute", "compute-edges"}),
    (
        {"stages": {"affinities": {"memory": "32G"}, "edges": {"memory": "32G"}}},
        "compute-edges",
        {"compute", "compute-edges"},
    ),
]


@pytest.mark.parametrize(("site", "predicting", "others"), SITES)
def test_on_a_cluster(
    planned: tuple[Workspace, Plan], site: dict[str, object], predicting: str, others: set[str], tmp_path: Path
) -> None:
    workspace, plan = planned
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(site))
    cluster = Cluster(site_named(str(tmp_path / "site.yaml")))
    found = kinds(workspace, plan.model_copy(update={"executor": "slurm"}), cluster)
    assert found.pop("affinities") == predicting
    assert set(found.values()) == others


@pytest.mark.parametrize(("site", "predicting", "others"), SITES)
def test_each_stage_has_one_kind(site: dict[str, object], predicting: str, others: set[str]) -> None:
    found = Site.model_validate(site).kinds()
    assert sorted(stage for stages in found.values() for stage in stages) == sorted(STAGES)
    assert found.keys() == others | {predicting}
    assert "affinities" in found[predicting]


def test_the_number_of_workers_makes_no_kind() -> None:
    site = Site.model_validate({"stages": {"edges": {"workers": 9}, "lookup": {"memory": "64G", "workers": 1}}})
    assert site.kinds() == {
        "compute": tuple(stage for stage in STAGES if stage != "lookup"),
        "compute-lookup": ("lookup",),
    }
    assert site.kind_of("agglomeration-2") == "compute"


def test_one_block_of_each_is_not_worth_a_worker(planned: tuple[Workspace, Plan]) -> None:
    workspace, plan = planned
    stages = plan.stages(workspace)

    def tasks(blocks: int) -> list[Task]:
        given = [(stage, list(stage.lattice.blocks(stage.halo))[:blocks]) for stage in stages[:3]]
        return [Task(stage, some, ledger_of(workspace, stage)) for stage, some in given]

    with Executors(workspace, plan, stages, Cluster()) as executors:
        assert isinstance(executors.choose(tasks(1)), SerialExecutor)
        assert isinstance(executors.choose(tasks(2)), WorkersExecutor)

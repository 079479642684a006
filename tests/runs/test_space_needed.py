"""The estimated bytes of a run depend on its pending blocks."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuroseg.runs import pipeline
from neuroseg.runs.options import Options
from neuroseg.runs.resolve import plan_of_run
from neuroseg.runs.space_needed import BYTES_PER_VOXEL, bytes_of_run, needed_bytes
from neuroseg.stage import Stage
from neuroseg.storage.workspace import Workspace

VOXELS = 40 * 50 * 45


@pytest.fixture
def predicted(raw_volume: str, tiny_model: str, tmp_path: Path) -> tuple[Workspace, list[Stage]]:
    options = Options(volume=raw_volume, model=tiny_model, output=str(tmp_path / "w"), blocks="32", executor="serial")
    workspace, _ = pipeline.predict(options)
    return workspace, pipeline.workspace_at(str(workspace.path))[1].stages(workspace)


def test_a_pyramid_needs_a_seventh_of_the_labels() -> None:
    assert BYTES_PER_VOXEL["pyramid"] == pytest.approx(BYTES_PER_VOXEL["relabel"] / 7, rel=0.05)
    assert bytes_of_run(700) == pytest.approx(700 * (sum(BYTES_PER_VOXEL.values()) - BYTES_PER_VOXEL["fragments"]))
    assert bytes_of_run(0) == 0


def test_affinities_count_by_their_channels_and_tables_do_not(tiny_model: str, raw_volume: str, tmp_path: Path) -> None:
    options = Options(volume=raw_volume, model=tiny_model, output=str(tmp_path / "w"), blocks="32", executor="serial")
    workspace, plan, _ = plan_of_run(options)
    stages = plan.stages(workspace)
    three, six = needed_bytes(workspace, stages, 3), needed_bytes(workspace, stages, 6)
    assert three["affinities"] == pytest.approx(VOXELS * BYTES_PER_VOXEL["affinities"])
    assert six.pop("affinities") == pytest.approx(2 * three.pop("affinities"))
    assert six == three


def test_what_is_done_needs_nothing(predicted: tuple[Workspace, list[Stage]]) -> None:
    workspace, stages = predicted
    needed = needed_bytes(workspace, stages, 3)
    assert "affinities" not in needed
    assert needed["edges"] == pytest.approx(VOXELS * BYTES_PER_VOXEL["edges"])


def test_temporary_artifacts_make_room_for_later_ones(predicted: tuple[Workspace, list[Stage]]) -> None:
    """After the edges, more is written than was removed. Without the labels, less."""
    workspace, stages = predicted
    left = {stage.name.split("-")[0] for stage in stages} - {"affinities", "fragments"}
    assert sum(needed_bytes(workspace, stages, 3).values()) == pytest.approx(
        VOXELS * sum(BYTES_PER_VOXEL[name] for name in left)
    )
    few = [stage for stage in stages if stage.name not in ("relabel", "pyramid")]
    kept = [VOXELS * BYTES_PER_VOXEL[name] for name in ("fragments", "edges")]
    assert sum(needed_bytes(workspace, few, 3).values()) == pytest.approx(sum(kept))

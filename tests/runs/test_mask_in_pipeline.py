"""Runs with a mask: blocks outside are skipped, and no segment reaches outside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from neuroseg.errors import InputError, RunRefusedError
from neuroseg.runs import pipeline
from neuroseg.runs.options import Options
from neuroseg.runs.stages import StageSummary
from neuroseg.storage.arrays import open_array
from neuroseg.storage.workspace import Workspace
from tests.conftest import make_volume

SHAPE = (32, 48, 64)


@pytest.fixture
def volume(tmp_path: Path) -> str:
    return make_volume(tmp_path / "V.zarr", SHAPE)


@pytest.fixture
def mask(tmp_path: Path) -> str:
    """Inside: x < 12 and 14 <= x < 30; at twice the volume's voxel size."""
    values = np.zeros(tuple(size // 2 for size in SHAPE), np.uint8)
    values[:, :, :15] = 1
    values[:, :, 6] = 0
    attributes = {"voxel_size": [20, 20, 20], "offset": [100, 0, 50]}
    array = zarr.create_array(str(tmp_path / "M.zarr"), shape=values.shape, dtype="u1", attributes=attributes)
    array[:] = values
    return str(tmp_path / "M.zarr")


def run(volume: str, model: str, workspace: Path, **more: object) -> tuple[Workspace, list[StageSummary]]:
    given = {"volume": volume, "model": model, "output": str(workspace), "executor": "serial", **more}
    return pipeline.run(Options.model_validate(given))


def test_only_what_is_inside_is_predicted_and_segmented(
    volume: str, mask: str, tiny_model: str, tmp_path: Path
) -> None:
    workspace, summaries = run(volume, tiny_model, tmp_path / "w", mask=mask, blocks="16", threshold=1)
    inside = np.zeros(SHAPE, bool)
    inside[:, :, :30] = True
    inside[:, :, 12:14] = False
    labels = open_array(workspace.segmentation / "0")[:]
    assert np.array_equal(labels > 0, inside)
    assert not set(np.unique(labels[..., :12])) & set(np.unique(labels[..., 14:30])), "no segment crosses"
    assert not open_array(workspace.affinities)[:][:, ~inside].any()
    blockwise = {s.stage: (s.blocks, s.outside) for s in summaries}
    assert blockwise["affinities"] == blockwise["fragments"] == blockwise["edges"] == (2 * 3 * 2, 2 * 3 * 2)


@pytest.mark.parametrize("blocks", ["16,24,32", "13,20,9"])
def test_a_mask_hides_the_blocks_too(volume: str, mask: str, tiny_model: str, tmp_path: Path, blocks: str) -> None:
    more = {"mask": mask, "mask_boundary": 0.45}
    whole, _ = run(volume, tiny_model, tmp_path / "a", blocks="64", **more)
    cut, _ = run(volume, tiny_model, tmp_path / "b", blocks=blocks, **more)
    for path in ("affinities.zarr", "fragments.zarr", "segmentation.zarr/0"):
        assert np.array_equal(open_array(whole.path / path)[:], open_array(cut.path / path)[:]), path
    assert len(np.unique(open_array(cut.segmentation / "0")[:])) > 5


def test_another_mask_is_refused_with_its_key(volume: str, mask: str, tiny_model: str, tmp_path: Path) -> None:
    run(volume, tiny_model, tmp_path / "w", blocks="32")
    with pytest.raises(RunRefusedError, match="mask: None -> "):
        run(volume, tiny_model, tmp_path / "w", blocks="32", mask=mask)
    with pytest.raises(RunRefusedError, match="mask: None -> "):
        pipeline.segment(Options(volume=str(tmp_path / "w"), mask=mask))
    # A prediction of everything, segmented inside a mask.
    _, summaries = pipeline.segment(Options(volume=str(tmp_path / "w"), mask=mask), restart="fragments")
    labels = open_array(tmp_path / "w" / "segmentation.zarr" / "0")[:]
    assert not labels[..., 30:].any()
    assert labels[..., :12].all()
    assert summaries[0].stage == "fragments"


def test_a_mask_beside_the_volume_is_refused(volume: str, tiny_model: str, tmp_path: Path) -> None:
    attributes = {"voxel_size": [10, 10, 10], "offset": [10_000, 0, 0]}
    zarr.create_array(str(tmp_path / "N.zarr"), shape=(4, 4, 4), dtype="u1", attributes=attributes, fill_value=1)
    with pytest.raises(InputError, match="no voxel in the region"):
        run(volume, tiny_model, tmp_path / "w", mask=str(tmp_path / "N.zarr"))
    assert not (tmp_path / "w").exists()


def test_a_mask_can_be_dropped_and_repainted(volume: str, mask: str, tiny_model: str, tmp_path: Path) -> None:
    workspace, _ = run(volume, tiny_model, tmp_path / "w", blocks="32", mask=mask)
    array = zarr.open_array(mask, mode="r+")
    array[3, 3, 20] = 1
    with pytest.raises(RunRefusedError, match=r"the mask .*M\.zarr has changed since this run: its values differ"):
        run(volume, tiny_model, tmp_path / "w", blocks="32")
    given = Options(volume=volume, model=tiny_model, output=str(workspace.path), blocks="32", mask="none")
    pipeline.run(given.model_copy(update={"executor": "serial"}), restart="all")
    assert open_array(workspace.segmentation / "0")[:].all()
    assert not pipeline.workspace_at(str(workspace.path))[1].mask

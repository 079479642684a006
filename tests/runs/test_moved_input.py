"""A run continues after its input moved. A changed input is refused with a description of the change."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
import zarr

from neuroseg.checks.replay import replay_block
from neuroseg.errors import InputError, RunRefusedError
from neuroseg.execution.block import ledger_of
from neuroseg.runs import pipeline
from neuroseg.runs.options import Options
from neuroseg.runs.plan import read_plan
from neuroseg.storage.arrays import open_array
from neuroseg.storage.workspace import Workspace
from tests.conftest import make_volume


def run(**given: object) -> tuple[Workspace, list[str]]:
    """Run, and return the workspace and the stages that ran."""
    options = Options.model_validate({"blocks": "32", "executor": "serial", **given})
    workspace, summaries = (pipeline.run if options.volume else pipeline.segment)(options)
    return workspace, [summary.stage for summary in summaries if summary.blocks]


def labels(workspace: Workspace) -> np.ndarray:
    return np.asarray(open_array(workspace.segmentation / "0")[:])


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder that will be moved: a raw volume, and a boundary map in an HDF5 file, with a mask."""
    folder = tmp_path / "old"
    folder.mkdir()
    make_volume(folder / "V.zarr", (24, 30, 28))
    values = zarr.open_array(str(folder / "V.zarr"), mode="r")[:]
    with h5py.File(folder / "B.h5", "w") as file:
        file["volumes/boundary"] = values.astype(np.float32) / 255
        file["volumes/boundary"].attrs["voxel_size"] = [10, 10, 10]
    mask = make_volume(folder / "M.zarr", (24, 30, 28), offset=[0, 0, 0])
    zarr.open_array(mask, mode="r+")[:4] = 0
    return folder


def files_of(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_moved_volume_workspace_mask_and_model_go_on(old: Path, tiny_model: str, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, old / "tiny")
    given = {"model": str(old / "tiny"), "mask": str(old / "M.zarr")}
    made, _ = run(volume=str(old / "V.zarr"), roi="0:24,0:30,0:20", **given)
    old.rename(tmp_path / "new")
    new = tmp_path / "new"
    before = files_of(new / "V.zarr")
    plan = read_plan(Workspace(new / "V.neuroseg"))
    assert (plan.path, plan.model) == (str(new / "V.zarr"), str(new / "tiny"))
    assert plan.mask is not None
    assert plan.mask.path == str(new / "M.zarr")
    _, again = pipeline.segment(Options(volume=str(new / made.path.name), threshold=0.3, executor="serial"))
    assert [summary.stage for summary in again if summary.blocks] == ["lookup", "relabel"]
    moved, done = run(volume=str(new / "V.zarr"), roi="0:24,0:30,0:20")
    assert done == [], "nothing is recomputed"
    run(volume=str(moved.path))  # the workspace finds its volume; the region grows
    fresh, _ = run(
        volume=str(new / "V.zarr"),
        output=str(tmp_path / "f"),
        threshold=0.3,
        model=tiny_model,
        mask=str(new / "M.zarr"),
    )
    assert np.array_equal(labels(moved), labels(fresh))
    assert files_of(new / "V.zarr") == before


def test_a_moved_boundary_map_goes_on(old: Path, tmp_path: Path) -> None:
    made, _ = run(boundaries=f"{old}/B.h5:volumes/boundary", output=str(old / "w"), mask=str(old / "M.zarr"))
    before = labels(made)
    old.rename(tmp_path / "new")
    moved = Workspace(tmp_path / "new" / "w")
    given = Options(volume=str(moved.path), executor="serial")
    _, summaries = pipeline.segment(given, restart="fragments")
    assert all(summary.blocks for summary in summaries)
    assert np.array_equal(labels(moved), before)
    _, done = run(boundaries=f"{tmp_path}/new/B.h5:volumes/boundary", output=str(moved.path))
    assert done == []


def test_an_input_that_moved_apart_is_asked_for(old: Path, tmp_path: Path) -> None:
    made, _ = run(boundaries=f"{old}/B.h5:volumes/boundary", output=str(tmp_path / "w"))
    (old / "B.h5").rename(tmp_path / "C.h5")
    segment = Options(volume=str(made.path), executor="serial")
    pipeline.segment(segment.model_copy(update={"threshold": 0.3}))  # reads no boundaries
    with pytest.raises(InputError, match=r"B\.h5:volumes/boundary does not exist\nhint: if it moved, .*--input NEW"):
        pipeline.segment(segment, restart="fragments")
    with pytest.raises(InputError, match="--input"):
        replay_block(str(made.path), "fragments", 0)
    there = f"{tmp_path}/C.h5:volumes/boundary"
    replay_block(str(made.path), "fragments", 0, there)
    pipeline.segment(segment.model_copy(update={"input": there}), restart="fragments")
    assert read_plan(made).path == there
    assert yaml.safe_load((made.path / "run.yaml").read_text())["options"]["boundaries"] == there


def test_a_raw_volume_that_moved_apart_is_asked_for(old: Path, tiny_model: str, tmp_path: Path) -> None:
    made, _ = run(volume=str(old / "V.zarr"), output=str(tmp_path / "w"), model=tiny_model)
    (old / "V.zarr").rename(tmp_path / "U.zarr")
    with pytest.raises(InputError, match=r"V\.zarr does not exist\nhint: if it moved, .*--input NEW"):
        run(volume=str(made.path))
    assert run(volume=str(made.path), input=str(tmp_path / "U.zarr"))[1] == []
    assert read_plan(made).path == str(tmp_path / "U.zarr")
    assert run(volume=str(old / "V.zarr"), input=str(tmp_path / "U.zarr"), output=str(made.path))[1] == []


def test_a_link_to_another_disk_is_only_a_hint(old: Path, tiny_model: str, tmp_path: Path) -> None:
    (tmp_path / "scratch").symlink_to(old)
    run(volume=f"{tmp_path}/scratch/V.zarr", model=tiny_model)
    old.rename(tmp_path / "disk2")
    (tmp_path / "scratch").unlink()
    (tmp_path / "scratch").symlink_to(tmp_path / "disk2")
    assert run(volume=f"{tmp_path}/scratch/V.zarr")[1] == []


@pytest.mark.parametrize("way", ["run", "segment"])
def test_what_changed_is_said_in_words(way: str, old: Path, tiny_model: str, tmp_path: Path) -> None:
    given = {"volume": str(old / "V.zarr"), "model": tiny_model}
    if way == "segment":
        given = {"affinities": affinities_in(old), "output": str(old / "w")}
    made, _ = run(**given)
    source = given.get("affinities") or given["volume"]
    array = zarr.open_array(source, mode="r+")
    array[:] = 255 - array[:]
    with pytest.raises(RunRefusedError, match=r"has changed since this run: (8 of 8|24 of 24) sampled boxes differ"):
        run(**given)
    if way == "segment":
        with pytest.raises(RunRefusedError, match="24 of 24 sampled boxes differ"):
            pipeline.segment(Options(volume=str(made.path), executor="serial"), restart="all")
        assert made.segmentation.exists(), "a refused restart destroys nothing"
    verb = pipeline.run if way == "run" else pipeline.segment
    verb(Options.model_validate({**given, "executor": "serial"}), restart="all")
    assert run(**given)[1] == []


def affinities_in(folder: Path) -> str:
    raw = zarr.open_array(str(folder / "V.zarr"), mode="r")[:]
    attributes = {"offsets": [[-1, 0, 0], [0, -1, 0], [0, 0, -1]], "voxel_size": [10, 10, 10]}
    array = zarr.create_array(str(folder / "A.zarr"), shape=(3, *raw.shape), dtype="u1", attributes=attributes)
    array[:] = np.stack([raw] * 3)
    return str(folder / "A.zarr")


def test_another_shape_or_voxel_size_is_said_in_words(old: Path, tiny_model: str, tmp_path: Path) -> None:
    made, _ = run(volume=str(old / "V.zarr"), model=tiny_model)
    shutil.rmtree(old / "V.zarr")
    make_volume(old / "V.zarr", (24, 30, 29), voxel_size=[10, 10, 11])
    changed = r"its shape was 24 x 30 x 28, now 24 x 30 x 29, its voxel size was 10 x 10 x 10 nm, now 10 x 10 x 11 nm"
    with pytest.raises(RunRefusedError, match=changed):
        run(volume=str(old / "V.zarr"))
    assert made.segmentation.exists()


def test_another_model_of_the_same_name_is_said_in_words(old: Path, tiny_model: str, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, old / "tiny")
    run(volume=str(old / "V.zarr"), model=str(old / "tiny"))
    card = old / "tiny" / "card.yaml"
    card.write_text(card.read_text().replace("[16, 16, 16]", "[18, 18, 18]"))
    with pytest.raises(RunRefusedError, match="the model tiny has changed since this run"):
        run(volume=str(old / "V.zarr"))


def test_a_mask_that_is_gone_is_asked_for(old: Path, tmp_path: Path) -> None:
    made, _ = run(boundaries=f"{old}/B.h5:volumes/boundary", output=str(tmp_path / "w"), mask=str(old / "M.zarr"))
    (old / "M.zarr").rename(tmp_path / "N.zarr")
    with pytest.raises(InputError, match=r"the mask .*M\.zarr does not exist\nhint: .*--mask NEW"):
        pipeline.segment(Options(volume=str(made.path), threshold=0.3))
    given = Options(volume=str(made.path), threshold=0.3, mask=str(tmp_path / "N.zarr"), executor="serial")
    _, summaries = pipeline.segment(given)
    assert [summary.stage for summary in summaries if summary.blocks] == ["lookup", "relabel"]


def test_a_workspace_of_an_earlier_version_is_refused_plainly(old: Path, tiny_model: str, tmp_path: Path) -> None:
    given = {"volume": str(old / "V.zarr"), "model": tiny_model}
    made, _ = run(**given)
    stage = read_plan(made).stage(made, "affinities")
    blocks = list(stage.lattice.blocks(stage.halo))
    content = yaml.safe_load((made.path / "run.yaml").read_text())
    del content["plan"]["input_content"], content["relative_paths"]
    content["plan"]["input_identity"] = "5" * 64
    (made.path / "run.yaml").write_text(yaml.safe_dump(content))
    earlier = made.ledger("affinities", {**stage.identity, "input": "5" * 64}, stage.scope)
    earlier.claim()
    for block, stored in list(ledger_of(made, stage).stored(blocks)):
        earlier.mark_done(block, {}, stored)  # marks hash the identity
    assert read_plan(made).input_content is None
    with pytest.raises(
        RunRefusedError, match=r"(?s)cannot be compared, because an earlier version .* --restart affinities"
    ):
        run(**given)


def test_paths_in_run_yaml_are_absolute_and_relative(old: Path, tiny_model: str, tmp_path: Path) -> None:
    made, _ = run(volume=os.path.relpath(old / "V.zarr"), model=tiny_model)
    content = yaml.safe_load((made.path / "run.yaml").read_text())
    assert content["plan"]["path"] == str(old / "V.zarr")
    assert content["relative_paths"][str(old / "V.zarr")] == "../V.zarr"

"""Odd but valid input through whole runs: the same bytes for any blocks, and sensible ones."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from neuroseg.errors import InputError, RunRefusedError
from neuroseg.runs import pipeline
from neuroseg.runs.options import Options
from neuroseg.storage.arrays import open_array
from neuroseg.storage.workspace import Workspace
from neuroseg.volumes.volume import open_volume
from tests.cli.test_bad_volumes import ome
from tests.conftest import make_volume


def run(volume: str, model: str, output: Path, **more: Any) -> Workspace:
    given = {"volume": volume, "model": model, "output": str(output), "executor": "serial", **more}
    return pipeline.run(Options.model_validate(given))[0]


def arrays(workspace: Workspace) -> list[np.ndarray]:
    paths = (workspace.affinities, workspace.fragments, workspace.segmentation / "0")
    return [np.asarray(open_array(path)[:]) for path in paths]


def change(volume: str, edit: Any) -> None:
    array = zarr.open_array(volume, mode="r+")
    array[:] = edit(np.asarray(array[:]))


def black_and_dim(raw: np.ndarray) -> np.ndarray:
    """A missing section, and jumps of brightness and contrast."""
    raw = raw.copy()
    raw[4] = 0
    raw[7:9] = raw[7:9] // 2 + 20
    return raw


@pytest.mark.parametrize("shape", [(12, 40, 36), (3, 40, 36), (1, 40, 36), (20, 1, 36), (12, 10, 9)])
@pytest.mark.parametrize("normalise", ["none", "sections"])
def test_thin_volumes_and_missing_sections(
    shape: tuple[int, ...], normalise: str, tiny_model: str, tmp_path: Path
) -> None:
    volume = make_volume(tmp_path / "V.zarr", shape)
    if shape[0] == 12:
        change(volume, black_and_dim)
    whole = arrays(run(volume, tiny_model, tmp_path / "a", blocks="64", normalise=normalise))
    cut = arrays(run(volume, tiny_model, tmp_path / "b", blocks="5,16,20", normalise=normalise))
    for one, other in zip(whole, cut, strict=True):
        assert one.shape[-3:] == shape
        assert np.array_equal(one, other)
    assert whole[-1].min() >= 1


def test_normalised_sections_do_not_see_their_brightness_and_not_the_region(tiny_model: str, tmp_path: Path) -> None:
    even = make_volume(tmp_path / "even.zarr", (10, 32, 32))
    change(even, lambda raw: np.clip(raw, 2, 120) // 2 * 2)
    jumpy = make_volume(tmp_path / "jumpy.zarr", (10, 32, 32))
    change(jumpy, lambda raw: np.clip(raw, 2, 120) // 2 * 2 // np.where(np.arange(10) == 3, 2, 1)[:, None, None])
    plain = [arrays(run(v, tiny_model, tmp_path / f"{n}0"))[0] for n, v in enumerate((even, jumpy))]
    sections = [
        arrays(run(v, tiny_model, tmp_path / f"{n}1", normalise="sections"))[0] for n, v in enumerate((even, jumpy))
    ]
    difference = [np.abs(a.astype(int) - b.astype(int))[:, 3].mean() for a, b in (plain, sections)]
    assert difference[1] < difference[0] / 3
    part = run(jumpy, tiny_model, tmp_path / "part", normalise="sections", roi="2:6,:,5:20", blocks="16")
    assert np.array_equal(arrays(part)[0][:, 2:6, :, 5:20], sections[1][:, 2:6, :, 5:20])


def test_normalisation_is_part_of_what_a_run_is(raw_volume: str, tiny_model: str, tmp_path: Path) -> None:
    run(raw_volume, tiny_model, tmp_path / "w")
    with pytest.raises(RunRefusedError, match="normalise: 'none' -> 'sections'"):
        run(raw_volume, tiny_model, tmp_path / "w", normalise="sections")


def test_a_restart_from_affinities_keeps_the_brightness_of_the_sections(
    raw_volume: str, tiny_model: str, tmp_path: Path
) -> None:
    given = {"volume": raw_volume, "model": tiny_model, "output": str(tmp_path / "w"), "executor": "serial"}
    options = Options.model_validate({**given, "normalise": "sections", "blocks": "32"})
    before = arrays(pipeline.run(options)[0])
    workspace, summaries = pipeline.run(options, restart="affinities")
    assert next(summary.stage for summary in summaries if summary.blocks) in ("sections", "affinities")
    for one, other in zip(before, arrays(workspace), strict=True):
        assert np.array_equal(one, other)
    again, _ = pipeline.run(Options.model_validate({"volume": raw_volume, "output": str(tmp_path / "w")}))
    assert arrays(again)[0].tolist() == before[0].tolist(), "normalise is remembered"


def test_uint16_raw_is_scaled_on_read(tiny_model: str, tmp_path: Path) -> None:
    eight = make_volume(tmp_path / "8.zarr", (10, 24, 24))
    values = np.asarray(zarr.open_array(eight, mode="r")[:])
    attributes = {"voxel_size": [10, 10, 10]}
    sixteen = zarr.create_array(str(tmp_path / "16.zarr"), shape=values.shape, dtype="u2", attributes=attributes)
    sixteen[:] = values.astype(np.uint16) * 257
    one, other = run(eight, tiny_model, tmp_path / "a"), run(str(tmp_path / "16.zarr"), tiny_model, tmp_path / "b")
    assert np.array_equal(arrays(one)[0], arrays(other)[0])


@pytest.mark.parametrize(("level", "shape"), [(None, (8, 16, 16)), (0, (16, 32, 32)), (2, (4, 8, 8))])
def test_one_level_of_a_pyramid(
    level: int | None, shape: tuple[int, ...], tiny_model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scales = {"a": [5.0, 5.0, 5.0], "b": [10.0, 10.0, 10.0], "c": [20.0, 20.0, 20.0]}
    shapes = {"a": (16, 32, 32), "b": (8, 16, 16), "c": (4, 8, 8)}
    image = ome(tmp_path / "I.zarr", scales, shapes)
    made = run(image, tiny_model, tmp_path / "w", level=level)
    volume = open_volume(str(made.segmentation))
    assert volume.shape == shape
    assert volume.voxel_size_nm == tuple(scales["abc"[1 if level is None else level]])
    assert ("expect a poor segmentation" in caplog.text) == (level is not None)


def test_affinity_channels_are_found_by_their_offsets(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (3, 12, 20, 24), np.uint8)
    offsets = [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]
    found = []
    for name, order in (("zyx", [0, 1, 2]), ("yxz", [1, 2, 0])):
        attributes = {"voxel_size": [10, 10, 10], "offsets": [offsets[channel] for channel in order]}
        array = zarr.create_array(str(tmp_path / name), shape=values.shape, dtype="u1", attributes=attributes)
        array[:] = values[order]
        given = {"affinities": str(tmp_path / name), "output": str(tmp_path / f"w{name}"), "executor": "serial"}
        made = pipeline.segment(Options.model_validate(given))[0]
        found.append(np.asarray(open_array(made.segmentation / "0")[:]))
    assert np.array_equal(*found)


@pytest.mark.parametrize("step", [-1, 1])
def test_offsets_may_point_up_or_down(step: int, tmp_path: Path) -> None:
    values = np.full((3, 8, 12, 20), 255, np.uint8)
    values[:, :, :, 8:12] = 0
    array = zarr.create_array(
        str(tmp_path / "A.zarr"), shape=values.shape, dtype="u1", attributes={"voxel_size": [10, 10, 10]}
    )
    array[:] = values
    given = {
        "affinities": str(tmp_path / "A.zarr"), "output": str(tmp_path / "w"), "executor": "serial",
        "offsets": f"{step},0,0;0,{step},0;0,0,{step}",
    }  # fmt: skip
    labels = np.asarray(open_array(pipeline.segment(Options.model_validate(given))[0].segmentation / "0")[:])
    assert (labels[:, :, :8] == 1).all()
    assert (labels[:, :, 12:] == labels[0, 0, 19]).all()
    assert labels[0, 0, 19] != 1


def test_a_description_that_the_disk_does_not_return_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.yaml").write_text("plan: {}\n")

    def refused(path: Path) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(InputError, match=r"^cannot read .*run\.yaml: Input/output error$"):
        Workspace(tmp_path).read_run()

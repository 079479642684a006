"""Commands with volumes whose axes, channels and positions are stored as other programs store them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from neuroseg.cli.main import exit_code

SIZE = [40, 4, 4]
BEGIN = (2, 5, 4)


def stored(path: Path, values: np.ndarray, **attributes: Any) -> Path:
    zarr.create_array(str(path), shape=values.shape, dtype=values.dtype, attributes=attributes)[:] = values
    return path


def labels() -> np.ndarray:
    z, y, x = np.indices((8, 20, 20))
    made: np.ndarray = (1 + (x // 5) + 4 * (y // 5) + 16 * (z // 4)).astype(np.uint64)
    return made


def evaluated(capfd: pytest.CaptureFixture[str], segmentation: Path, truth: Path) -> tuple[int, dict[str, Any], str]:
    capfd.readouterr()
    code = exit_code(["evaluate", str(segmentation), "--truth", str(truth), "--json"])
    captured = capfd.readouterr()
    return code, json.loads(captured.out) if code == 0 else {}, captured.err


@pytest.fixture
def crop() -> np.ndarray:
    return labels()[tuple(slice(begin, None) for begin in BEGIN)]


def offset() -> list[int]:
    return [begin * edge for begin, edge in zip(BEGIN, SIZE, strict=True)]


@pytest.mark.parametrize("order", ["zyx", "xyz", "yxz"])
@pytest.mark.parametrize("sized", ["both", "truth", "segmentation"])
def test_truth_is_placed_by_the_voxel_size_of_either_volume(
    order: str, sized: str, crop: np.ndarray, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    turn = ["zyx".index(axis) for axis in order]
    size = {"voxel_size": [SIZE[axis] for axis in turn]} if sized != "segmentation" else {}
    place = {"offset": [offset()[axis] for axis in turn], "axis_names": list(order)}
    truth = stored(tmp_path / "T.zarr", crop.transpose(turn), **place, **size)
    known = {"voxel_size": SIZE, "offset": [0, 0, 0]} if sized != "truth" else {}
    code, found, said = evaluated(capfd, stored(tmp_path / "S.zarr", labels(), **known), truth)
    assert code == 0
    assert (found["roi"], found["voi_sum"]) == ("2:8,5:20,4:20", 0)
    assert len(found["assumptions"]) == {"both": 0, "truth": 2, "segmentation": 1}[sized]
    assert all(assumption in said for assumption in found["assumptions"])
    if sized == "truth":
        assert any("has voxels of 40 x 4 x 4 nm" in assumption for assumption in found["assumptions"])


def test_an_offset_without_any_voxel_size_is_refused(
    crop: np.ndarray, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    truth = stored(tmp_path / "T.zarr", crop, offset=offset())
    code, _, said = evaluated(capfd, stored(tmp_path / "S.zarr", labels()), truth)
    assert code == 2
    assert "neither it nor" in said
    assert "attribute voxel_size" in said


def image(path: Path, values: np.ndarray, *steps: dict[str, Any]) -> Path:
    group = zarr.open_group(str(path), mode="w", zarr_format=3)
    group.create_array("0", shape=values.shape, dtype=values.dtype)[:] = values
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]
    datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": SIZE}, *steps]}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    return path


def test_an_image_without_a_translation_has_no_position(
    crop: np.ndarray, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    segmentation = stored(tmp_path / "S.zarr", labels(), voxel_size=SIZE, offset=[0, 0, 0])
    code, _, said = evaluated(capfd, segmentation, image(tmp_path / "T.zarr", crop))
    assert code == 2
    assert "attribute `offset` (nm, z y x) or an OME translation" in said
    placed = image(tmp_path / "P.zarr", crop, {"type": "translation", "translation": offset()})
    assert evaluated(capfd, segmentation, placed)[1]["voi_sum"] == 0
    code, found, _ = evaluated(capfd, segmentation, image(tmp_path / "W.zarr", labels()))
    assert found["assumptions"] == [
        f"{tmp_path}/W.zarr begins where the segmentation begins: it has no offset and the same shape"
    ]


@pytest.mark.parametrize("convention", ["plain", "ome", "unknown"])
def test_a_segmentation_lies_where_its_input_lies(
    convention: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    boundaries = np.zeros((8, 20, 20), np.uint8)
    boundaries[:, 9:11] = 250
    shift = {"type": "translation", "translation": [80, 8, 8]}
    made = {
        "plain": lambda path: stored(path, boundaries, voxel_size=SIZE, offset=[80, 8, 8]),
        "ome": lambda path: image(path, boundaries, shift),
        "unknown": lambda path: stored(path, boundaries, voxel_size=SIZE),
    }[convention](tmp_path / "B.zarr")
    arguments = ["segment", "--boundaries", str(made), "-o", str(tmp_path / "w"), "--executor", "serial"]
    assert exit_code(arguments) == 0
    segmentation = str(tmp_path / "w" / "segmentation.zarr")
    for path in (str(made), segmentation, f"{segmentation}/0"):
        capfd.readouterr()
        assert exit_code(["info", path, "--json"]) == 0
        found = json.loads(capfd.readouterr().out)
        expected = {"plain": "corner", "ome": "centre", "unknown": "unknown"}[convention]
        assert found["offset_convention"] == expected, path
        assert found["offset_nm"] == ([0, 0, 0] if convention == "unknown" else [80, 8, 8])


def test_channels_are_chosen_in_every_command(
    tiny_model: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    channels = rng.integers(0, 255, (2, 20, 24, 28)).astype(np.uint8)
    plain = stored(tmp_path / "plain.zarr", channels[1], voxel_size=[10, 10, 10])
    both = stored(
        tmp_path / "both.zarr", channels.transpose(3, 0, 2, 1), axis_names=["x", "c", "y", "z"], voxel_size=[10] * 3
    )
    run = ["run", "--model", tiny_model, "--executor", "serial", "--force"]
    assert exit_code([*run, str(both)]) == 2
    assert "has 2 channels, expected one\nhint: choose one with --channel N (0 to 1)" in capfd.readouterr().err
    assert exit_code(["info", str(both), "--channel", "1", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["shape"] == [20, 24, 28]
    assert exit_code([*run, str(both), "--channel", "1", "-o", str(tmp_path / "b")]) == 0
    assert exit_code([*run, str(plain), "-o", str(tmp_path / "p"), "--blocks", "16"]) == 0
    for name in ("affinities.zarr", "segmentation.zarr/0"):
        first, second = (zarr.open_array(str(tmp_path / w / name), mode="r")[:] for w in "bp")
        assert np.array_equal(first, second)
    # Another channel is another input. The same channel resumes without its option.
    assert exit_code([*run, str(both), "--channel", "0", "-o", str(tmp_path / "b")]) != 0
    assert exit_code([*run, str(both), "-o", str(tmp_path / "b")]) == 0
    assert exit_code(["import", str(both), "--channel", "1", "-o", str(tmp_path / "i.zarr"), "--force"]) == 0
    assert np.array_equal(zarr.open_group(str(tmp_path / "i.zarr"), mode="r")["0"][:], channels[1])

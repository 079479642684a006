"""Unusable volumes, affinities, models and workspaces: exit code 2, a message that names them, nothing written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from neuroseg.cli.main import exit_code
from neuroseg.networks.bundle import open_bundle
from tests.conftest import make_volume

OFFSETS = [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]
VOXELS: dict[str, Any] = {"voxel_size": [10, 10, 10]}
AXES = [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]


def store(path: Path, values: np.ndarray, **attributes: object) -> str:
    array = zarr.create_array(str(path), shape=values.shape, dtype=values.dtype, attributes=attributes)
    array[:] = values
    return str(path)


def ome(path: Path, levels: dict[str, list[float]], shapes: dict[str, tuple[int, ...]]) -> str:
    """An OME-NGFF image that lists `levels` (path, scale) and contains arrays of `shapes`."""
    datasets = [
        {"path": name, "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        for name, scale in levels.items()
    ]
    attributes = {"ome": {"version": "0.5", "multiscales": [{"axes": AXES, "datasets": datasets}]}}
    group = zarr.open_group(str(path), mode="w", attributes=attributes)
    for name, shape in shapes.items():
        values = np.random.default_rng(0).integers(50, 200, shape, np.uint8)
        group.create_array(name, shape=shape, dtype="u1")[:] = values
    return str(path)


def refused(arguments: list[str], folder: Path, capfd: pytest.CaptureFixture[str]) -> str:
    """Return stderr of a command. It must end with exit code 2, without a traceback, and not change `folder`."""
    before = sorted(folder.rglob("*"))
    assert exit_code([*arguments, "--executor", "serial"]) == 2
    captured = capfd.readouterr()
    assert "Traceback" not in captured.err
    assert captured.err.startswith("error: ")
    assert captured.out == ""
    assert sorted(folder.rglob("*")) == before
    return captured.err


@pytest.mark.parametrize(
    ("values", "attributes", "said"),
    [
        (np.zeros((9, 9), "u1"), VOXELS, "is a 2D array of shape (9, 9)"),
        (np.zeros((1, 1, 9, 9, 9), "u1"), VOXELS, "is a 5D array"),
        (np.zeros((0, 9, 9), "u1"), VOXELS, "is empty: its shape is (0, 9, 9)"),
        (np.zeros((9, 9, 9), "i8"), VOXELS, "contains int64 values, expected raw of type uint8, uint16 or float"),
        (np.zeros((9, 9, 9), "?"), VOXELS, "contains bool values"),
        (np.zeros((9, 9, 9), "f4"), VOXELS, "--range LOW HIGH"),
        (np.zeros((9, 9, 9), "u1"), {}, "--voxel-size 10 10 10"),
        (np.zeros((9, 9, 9), "u1"), {"voxel_size": "big"}, "attribute voxel_size = 'big' is not three numbers"),
        (np.zeros((9, 9, 9), "u1"), {"voxel_size": [-1, 1, 1]}, "expected three positive numbers"),
        (
            np.zeros((9, 9, 9), "u1"),
            {"voxel_size": [40, 40, 40]},
            "(4.0 times different)\nhint: choose another pyramid level (--level)",
        ),
    ],
)
def test_unusable_raw_is_refused(
    values: np.ndarray, attributes: dict[str, Any], said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(["run", store(tmp_path / "V.zarr", values, **attributes)], tmp_path, capfd)


@pytest.mark.parametrize("command", ["predict", "segment", "run"])
def test_a_missing_volume_is_named(command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "no.zarr does not exist" in refused([command, str(tmp_path / "no.zarr")], tmp_path, capfd)


def test_raw_that_is_not_finite_is_found_before_the_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    values = np.zeros((9, 8, 7), "f4")
    values[5, 6, 2:4] = np.nan
    volume = store(tmp_path / "V.zarr", values, **VOXELS)
    assert "voxel (5, 6, 2) (z, y, x) is nan" in refused(["run", volume, "--range", "0", "1"], tmp_path, capfd)


def test_damaged_volumes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cut = make_volume(tmp_path / "cut.zarr", (16, 16, 16))
    for chunk in (tmp_path / "cut.zarr" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(chunk.read_bytes()[:9])
    assert "hint: if the file is damaged, copy the volume again" in refused(["run", cut], tmp_path, capfd)
    (tmp_path / "text.zarr").mkdir()
    (tmp_path / "text.zarr" / "zarr.json").write_text("{not json")
    assert "is not a zarr" in refused(["run", str(tmp_path / "text.zarr")], tmp_path, capfd)
    partial = ome(tmp_path / "partial.zarr", {"0": [10, 10, 10]}, {})
    assert "lists level 0 at '0', but contains no array there" in refused(["run", partial], tmp_path, capfd)
    short = ome(tmp_path / "short.zarr", {"0": [10, 10]}, {"0": (8, 8, 8)})
    assert "metadata are malformed" in refused(["run", short], tmp_path, capfd)


@pytest.mark.parametrize(
    ("shape", "dtype", "attributes", "said"),
    [
        ((2, 9, 9, 9), "u1", {"offsets": OFFSETS, **VOXELS}, "has 2 channels but 3 offsets"),
        ((9, 9, 9), "u1", {"offsets": OFFSETS, **VOXELS}, "has shape (9, 9, 9), expected an array (channel, z, y, x)"),
        ((3, 9, 9, 9), "i4", {"offsets": OFFSETS, **VOXELS}, "expected affinities as float in [0, 1] or uint8"),
        ((3, 9, 9, 9), "u1", VOXELS, "has no attribute `offsets`"),
        ((3, 9, 9, 9), "u1", {"offsets": [*OFFSETS[:2], [0, 0, -2]], **VOXELS}, "links direct neighbours along x"),
        ((3, 9, 9, 9), "u1", {"offsets": "junk", **VOXELS}, "are not rows of z,y,x steps"),
        ((3, 9, 9, 9), "u1", {"offsets": OFFSETS}, "--voxel-size 10 10 10"),
        ((3, 9, 9, 9), "u1", {"offsets": OFFSETS, "voxel_size": [0, 1, 1]}, "expected three positive numbers"),
        ((3, 0, 9, 9), "u1", {"offsets": OFFSETS, **VOXELS}, "is empty"),
    ],
)
def test_unusable_affinities_are_refused(
    shape: tuple[int, ...], dtype: str, attributes: dict[str, Any], said: str, tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    source = store(tmp_path / "A.zarr", np.zeros(shape, dtype), **attributes)
    assert said in refused(["segment", "--affinities", source, "-o", str(tmp_path / "w")], tmp_path, capfd)


@pytest.mark.parametrize(
    ("value", "said"),
    [(np.nan, "is nan"), (np.inf, "is inf"), (-0.5, "is -0.5"), (2, "is 2"), (200, "divide the values by 255")],
)
def test_the_position_of_unusable_affinities_is_named(
    value: float, said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    values = np.full((3, 9, 8, 7), 0.25, "f4")
    values[1, 5, 6, 2] = value
    source = store(tmp_path / "A.zarr", values, offsets=OFFSETS, **VOXELS)
    message = refused(["segment", "--affinities", source, "-o", str(tmp_path / "w")], tmp_path, capfd)
    assert f"channel 1, voxel (5, 6, 2) (z, y, x) {said}" in message or said in message
    assert "channel 1, voxel (5, 6, 2)" in message
    assert "0.25" in message


def test_unusable_affinities_deep_in_a_large_volume_fail_their_block(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neuroseg.volumes.volume._CHECKED_VOXELS", 0)
    values = np.full((3, 64, 20, 20), 0.25, "f4")
    values[2, 40, 1, 3] = np.nan
    monkeypatch.setattr("neuroseg.volumes.volume._SAMPLED_BOXES", 0)
    source = store(tmp_path / "A.zarr", values, offsets=OFFSETS, **VOXELS)
    arguments = ["segment", "--affinities", source, "-o", str(tmp_path / "w"), "--blocks", "16,32,32"]
    assert exit_code([*arguments, "--executor", "serial"]) == 1
    message = capfd.readouterr().err
    assert "stage fragments, block 1 (16:32,0:20,0:20): " in message
    assert "(and 2 more: 2, 3)" in message
    assert "channel 2, voxel (40, 1, 3) (z, y, x) is nan" in message


def test_a_boundary_map_with_a_missing_chunk_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    values = np.full((9, 8, 7), 0.25, "f4")
    values[5, 6, 2] = np.nan
    source = store(tmp_path / "B.zarr", values, **VOXELS)
    message = refused(["segment", "--boundaries", source, "-o", str(tmp_path / "w")], tmp_path, capfd)
    assert "B.zarr: voxel (5, 6, 2) (z, y, x) is nan" in message


def test_missing_levels_are_refused(raw_volume: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    message = refused(["run", raw_volume, "--level", "1"], tmp_path, capfd)
    assert "one array without levels, found --level 1\nhint: omit --level" in message
    image = ome(tmp_path / "I.zarr", {"0": [10, 10, 10]}, {"0": (8, 8, 8)})
    assert "has 1 levels (0 to 0), found --level 2" in refused(["run", image, "--level", "2"], tmp_path, capfd)


def test_a_workspace_is_never_made_inside_a_zarr(
    raw_volume: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert "is inside the zarr" in refused(["run", raw_volume, "-o", f"{raw_volume}/w"], tmp_path, capfd)


def test_weights_that_do_not_fit_the_card(
    raw_volume: str, tiny_model: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    card = (model / "card.yaml").read_text()
    (model / "card.yaml").write_text(card.replace("[4, 8]", "[4, 16]"))
    assert "do not fit its card" in refused(["run", raw_volume, "--model", str(model)], tmp_path, capfd)
    (model / "card.yaml").write_text(card)
    open_bundle(str(model)).check()
    (model / "weights.safetensors").write_bytes(b"junk")
    assert "cannot read the weights" in refused(["run", raw_volume, "--model", str(model)], tmp_path, capfd)
    (model / "card.yaml").write_text("name: x")
    assert "key 'network' is missing" in refused(["run", raw_volume, "--model", str(model)], tmp_path, capfd)

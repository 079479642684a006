"""The command `info`: volumes, labels, images of several levels and workspaces."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr

from neuroseg.cli.main import exit_code
from tests.cli.test_bad_volumes import AXES, store
from tests.conftest import make_volume

VOXELS: dict[str, Any] = {"voxel_size": [10, 10, 10]}


def shown(address: object, capfd: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
    """Return the output of `info` as JSON and as text."""
    capfd.readouterr()
    assert exit_code(["info", str(address), "--json"]) == 0
    content: dict[str, Any] = json.loads(capfd.readouterr().out)
    assert exit_code(["info", str(address)]) == 0
    return content, capfd.readouterr().out


def labels() -> np.ndarray:
    z, y, x = np.indices((8, 40, 40)) // 8
    return (x + 5 * y + 25 * z).astype(np.uint64)


def test_raw(raw_volume: str, capfd: pytest.CaptureFixture[str]) -> None:
    found, text = shown(raw_volume, capfd)
    assert (found["kind"], found["sampled_values"], found["findings"]) == ("raw", [0, 255], [])
    assert (found["chunks_stored"], found["chunks_expected"]) == (8, 8)
    assert found["disk_gb"] > 0
    assert "raw, 0 to 255 in a sample" in text
    assert "8 of 8 chunks" in text


def test_the_tiles_of_the_model(raw_volume: str, tiny_model: str, capfd: pytest.CaptureFixture[str]) -> None:
    found, text = shown(raw_volume, capfd)
    assert found["model"] == "fib25_light"
    assert (found["tiles"]["cpu"]["computed_per_kept"], found["tiles"]["gpu"]["computed_per_kept"]) == (8, 1.953)
    cpu = "CPU tile 64 x 64 x 64 voxels, batch 1, computes 8.0 voxels per voxel kept"
    gpu = "GPU tile 256 x 256 x 256 voxels, batch 1, computes 2.0 voxels per voxel kept"
    assert cpu in text
    assert gpu in text
    for command in (["models"], ["models", "show", "fib25_light"]):
        assert exit_code(command) == 0
        printed = capfd.readouterr().out
        assert cpu in printed
        assert gpu in printed
    assert exit_code(["info", raw_volume, "--model", tiny_model]) == 0
    assert "GPU tile 16 x 16 x 16 voxels, batch 1" in capfd.readouterr().out
    assert exit_code(["models", "show", tiny_model, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["tiles"]["gpu"]["computed_per_kept"] == 8


def test_labels_have_no_estimate_of_a_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found, text = shown(store(tmp_path / "L.zarr", labels(), **VOXELS), capfd)
    assert (found["kind"], found["sampled_ids"], found["sampled_values"]) == ("labels", 24, [0, 24])
    assert not {"blocks", "disk_gb", "affinities_gb"} & set(found)
    assert "labels, 24 ids in a sample, 0 to 24" in text
    assert "disk" not in text
    mask = store(tmp_path / "M.zarr", (labels() == 3).astype(np.uint8), **VOXELS)
    assert shown(mask, capfd)[0]["kind"] == "labels"


def test_missing_chunks_are_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    volume = make_volume(tmp_path / "V.zarr", (40, 50, 45))
    shutil.rmtree(tmp_path / "V.zarr" / "c" / "1")
    found, text = shown(volume, capfd)
    assert (found["chunks_stored"], found["chunks_expected"], found["chunks_looked_at"]) == (4, 8, 8)
    assert "stored 4 of 8 chunks" in text


def test_problems_that_an_import_refuses_are_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    dark = (np.random.default_rng(0).normal(2000, 300, (20, 40, 40))).astype(np.uint16)
    found, text = shown(store(tmp_path / "V.zarr", dark, **VOXELS), capfd)
    assert "--range 0 4095" in found["findings"][0]
    assert "--range 0 4095" in text


def test_hdf5_and_values_that_are_not_finite(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["raw"] = np.array([[[0.5, np.nan, 2.0, -np.inf]]], np.float32)
        file["nothing"] = np.full((2, 2, 2), np.nan, np.float32)
    assert shown(f"{tmp_path}/v.h5:raw", capfd)[0]["sampled_values"] == [0.5, 2]
    found, text = shown(f"{tmp_path}/v.h5:nothing", capfd)
    assert found["sampled_values"] is None
    assert "none finite" in text


def test_the_levels_of_an_image(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    datasets = [
        {"path": name, "coordinateTransformations": [{"type": "scale", "scale": [edge] * 3}]}
        for name, edge in (("0", 5.0), ("1", 10.0))
    ]
    ome = {"version": "0.5", "multiscales": [{"axes": AXES, "datasets": datasets}], "image-label": {}}
    group = zarr.open_group(str(tmp_path / "I.zarr"), mode="w", attributes={"ome": ome})
    for name, edge in (("0", 16), ("1", 8)):
        group.create_array(name, shape=(edge,) * 3, dtype="u1")[:] = 3
    found, text = shown(tmp_path / "I.zarr", capfd)
    assert found["kind"] == "labels"
    assert found["levels"] == [
        {"path": "0", "shape": [16, 16, 16], "voxel_size_nm": [5, 5, 5]},
        {"path": "1", "shape": [8, 8, 8], "voxel_size_nm": [10, 10, 10]},
    ]
    assert "level 1 (path 1): 8 x 8 x 8, 10 x 10 x 10 nm" in text


def test_a_workspace(raw_volume: str, tiny_model: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    where = str(tmp_path / "w.neuroseg")
    run = ["--model", tiny_model, "-o", where, "--blocks", "32", "--executor", "serial"]
    assert exit_code(["predict", raw_volume, *run]) == 0
    found, text = shown(where, capfd)
    assert (found["kind"], found["input"], found["segmentation"]) == ("workspace", raw_volume, None)
    assert {row["stage"]: (row["done"], row["blocks"]) for row in found["stages"]}["affinities"] == (8, 8)
    assert {row["stage"]: row["done"] for row in found["stages"]}["fragments"] == 0
    assert "segments not yet" in text
    assert exit_code(["segment", where, "--executor", "serial", "--threshold", "0.4"]) == 0
    found, text = shown(where, capfd)
    assert (found["segmentation"], found["threshold"]) == (f"{where}/segmentation.zarr", 0.4)
    assert all(row["done"] == row["blocks"] for row in found["stages"])
    assert f"{where}/segmentation.zarr (mean, threshold 0.4)" in text
    assert shown(f"{where}/segmentation.zarr", capfd)[0]["kind"] == "labels"

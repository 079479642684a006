"""Advice on an implausible segmentation names the likely cause. Another threshold is suggested last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from scipy import ndimage

from neuroseg.checks.advice import MERGED, NOTHING, PIECES, Facts, advice, advice_on, symptom_of
from neuroseg.cli.main import exit_code
from neuroseg.runs import pipeline
from neuroseg.runs.options import Options

USUAL = np.bincount(np.repeat([10, 130, 250], [15, 20, 65]), minlength=256)


@pytest.mark.parametrize(
    ("sizes", "voxels", "symptom"),
    [
        ([0, 100, 120, 90, 110], 420, None),
        ([0, 500, 120, 90, 110], 820, MERGED),
        ([0, 7], 7, MERGED),
        ([0], 1000, NOTHING),
        ([1000], 1000, NOTHING),
        ([1000, 9], 1009, NOTHING),
        ([0], 0, NOTHING),
        ([0, *[1500] * 200], 300_000, PIECES),
        ([0, *[1500] * 50], 75_000, None),
        ([0, *[9000] * 200], 1_800_000, None),
        ([0, *[9000] * 200, *[3] * 5000], 1_815_000, None),  # slivers between large segments
    ],
)
def test_symptoms_of_segment_sizes(sizes: list[int], voxels: int, symptom: str | None) -> None:
    assert symptom_of(np.array(sizes, np.int64), voxels) == symptom


@pytest.mark.parametrize("symptom", [MERGED, PIECES, NOTHING])
def test_causes_come_in_order(symptom: str) -> None:
    zeros = np.bincount([3] * 90 + [200] * 10, minlength=256)
    sizes = ((10.0, 10.0, 10.0), (40.0, 10.0, 10.0))
    same = ((10.0, 10.0, 10.0), (12.0, 10.0, 10.0))
    assert advice(symptom, Facts("raw", "every voxel is 0", sizes, zeros)).startswith(
        "the likely cause is the raw volume: every"
    )
    assert "trained at 10 x 10 x 10 nm, the volume has 40 x" in advice(symptom, Facts("raw", None, sizes, zeros))
    assert "90 % are near 0 (mean 0.09)" in advice(symptom, Facts("raw", None, same, zeros))
    assert "cause" not in advice(symptom, Facts("raw", None, same, USUAL))


def test_the_threshold_goes_the_right_way() -> None:
    assert "lower --threshold" in advice(MERGED, Facts("raw"))
    assert "higher --threshold" in advice(PIECES, Facts("raw"))


def test_only_options_that_can_help_are_named() -> None:
    assert "which --threshold cannot split" in advice(MERGED, Facts("raw", is_one_fragment=True))
    assert "already 1" in advice(PIECES, Facts("raw", threshold=1.0))
    assert advice(NOTHING, Facts("raw")) == "few voxels are segmented: check the input"
    assert advice(NOTHING, Facts("raw", limits=("--mask",))) == "few voxels are segmented: check --mask"
    both = Facts("raw", threshold=0.5, limits=("--mask", "--min-size"))
    expected = "few voxels are segmented: check --mask and --min-size, or use a higher --threshold"
    assert advice(NOTHING, both) == expected


def cells(shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """A boundary map of Voronoi cells."""
    rng = np.random.default_rng(1)
    seeds = np.zeros(shape, np.uint32)
    for label in range(1, 40):
        seeds[tuple(int(rng.integers(size)) for size in shape)] = label
    nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    labels = seeds[tuple(nearest)]
    edge = ndimage.grey_dilation(labels, 3) != ndimage.grey_erosion(labels, 3)
    return np.where(edge, 0.95, 0.03).astype(np.float32)


def store(path: Path, values: NDArray[Any], **attributes: object) -> str:
    stated = {"voxel_size": [10, 10, 10], **attributes}
    array = zarr.create_array(str(path), shape=values.shape, dtype=values.dtype, attributes=stated)
    array[:] = values
    return str(path)


def advised(arguments: list[object], capfd: pytest.CaptureFixture[str]) -> str | None:
    capfd.readouterr()
    assert exit_code([*map(str, arguments), "--executor", "serial", "--json"]) == 0
    found: str | None = json.loads(capfd.readouterr().out)["advice"]
    return found


def test_boundary_maps(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    boundaries = cells((30, 60, 60))
    noise = np.random.default_rng(0).normal(0.5, 0.01, boundaries.shape).astype(np.float32)
    right, inverted, uniform = (
        ["segment", "--boundaries", store(tmp_path / f"{name}.zarr", values), "-o", tmp_path / name]
        for name, values in (("right", boundaries), ("inverted", 1 - boundaries), ("uniform", noise))
    )
    assert advised(right, capfd) is None
    assert "If 1 is the inside of neurons, invert the map" in (advised(inverted, capfd) or "")
    assert "the affinities: nearly all have the value 0.49" in (advised(uniform, capfd) or "")
    merged = advised([*right, "--threshold", "0.99"], capfd) or ""
    assert merged == "if several neurons are merged, use a lower --threshold"
    assert exit_code(["segment", f"{tmp_path}/right", "--executor", "serial"]) == 0
    assert f"note: {merged}" in capfd.readouterr().err


def test_the_fix_for_an_inverted_map_is_right(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    inverted = store(tmp_path / "inverted.zarr", 1 - cells((30, 60, 60)))
    assert exit_code(["import", inverted, "-o", f"{tmp_path}/right.zarr", "--range", "1", "0"]) == 0
    assert advised(["segment", "--boundaries", tmp_path / "right.zarr", "-o", tmp_path / "w"], capfd) is None


def test_a_mask_of_0_and_1_is_no_boundary_map(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    binary = store(tmp_path / "binary.zarr", (cells((20, 40, 40)) > 0.5).astype(np.uint8))
    command = ["segment", "--boundaries", binary, "-o", f"{tmp_path}/w", "--executor", "serial"]
    assert exit_code(command) == 2
    assert "multiply the values by 255" in capfd.readouterr().err


def test_nearly_black_raw(data_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with h5py.File(data_folder / "fib25_ts2.h5", "r") as file:
        dark = file["raw"][:24, :48, :48].astype(np.uint16) * 16
    volume = store(tmp_path / "dark.zarr", dark)
    note = advised(["run", volume, "-o", tmp_path / "w", "--force"], capfd) or ""
    assert note.startswith("the likely cause is the raw volume: ")
    assert "--range 0 4095" in note


def test_a_wrong_voxel_size(data_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with h5py.File(data_folder / "fib25_ts2.h5", "r") as file:
        coarse = file["raw"][:96:4, :192:4, :192:4]
    volume = store(tmp_path / "coarse.zarr", coarse, voxel_size=[40, 40, 40])
    note = advised(["run", volume, "-o", tmp_path / "w", "--force", "--threshold", "0.95"], capfd) or ""
    assert "the model was trained at 10 x 10 x 10 nm, the volume has 40 x 40 x 40 nm" in note


def test_voxels_outside_a_mask_do_not_count_as_bad_affinities(tmp_path: Path) -> None:
    values = np.full((3, 20, 40, 40), 200, np.uint8)
    offsets = [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]
    placed = {"voxel_size": [10, 10, 10], "offset": [0, 0, 0]}
    for name, array in (("A.zarr", values), ("M.zarr", np.zeros((20, 40, 40), np.uint8))):
        stored = zarr.create_array(
            str(tmp_path / name), shape=array.shape, dtype="u1", attributes={**placed, "offsets": offsets}
        )
        stored[:] = array
    mask = zarr.open_array(str(tmp_path / "M.zarr"), mode="r+")
    mask[:, :8, :8] = 1
    affinities = zarr.open_array(str(tmp_path / "A.zarr"), mode="r+")
    affinities[:, :, 8:] = 0
    affinities[:, :, :, 8:] = 0
    given = {"affinities": str(tmp_path / "A.zarr"), "mask": str(tmp_path / "M.zarr"), "output": str(tmp_path / "w")}
    workspace, _ = pipeline.segment(Options.model_validate({**given, "executor": "serial"}))
    note = advice_on(workspace, np.array([0, 1000], np.int64))
    assert note is not None
    assert "the affinities: nearly all have the value 0.78" in note, "not near 0"

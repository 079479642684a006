"""`neuroseg import` of TIFF stacks: selecting options, voxel sizes of the files, refusals before a write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

from neuroseg.cli.main import exit_code


def run_import(*arguments: str | Path) -> int:
    """Run the command in this process and return its exit code."""
    return exit_code(["import", *map(str, arguments)])


def voxels(path: Path) -> Any:
    """Return the voxels of an imported volume."""
    return zarr.open_array(str(path / "0"), mode="r")[:]


def test_one_channel_of_a_hyperstack_is_imported_with_its_voxel_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = np.random.default_rng(0).integers(0, 255, (6, 2, 16, 24), np.uint8)
    tifffile.imwrite(
        tmp_path / "h.tif", values, imagej=True, resolution=(250, 125),
        metadata={"axes": "ZCYX", "spacing": 0.04, "unit": "um"},
    )  # fmt: skip
    assert run_import(tmp_path / "h.tif", "-o", tmp_path / "V.zarr") == 2
    assert "--channel N (0 to 1)" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["h.tif"]
    assert run_import(tmp_path / "h.tif", "--channel", "1", "-o", tmp_path / "V.zarr", "--json") == 0
    assert json.loads(capsys.readouterr().out)["voxel_size_nm"] == pytest.approx([40, 8, 4])
    assert np.array_equal(voxels(tmp_path / "V.zarr"), values[:, 1])
    size = ["--voxel-size", "30", "6", "6"]
    assert run_import(tmp_path / "h.tif", "--channel", "1", "-o", tmp_path / "W.zarr", *size, "--json") == 0
    assert json.loads(capsys.readouterr().out)["voxel_size_nm"] == [30, 6, 6]


def test_the_order_of_two_counters_is_chosen(tmp_path: Path) -> None:
    sections = tmp_path / "sections"
    sections.mkdir()
    for value, name in enumerate(["pos2_sec1", "pos1_sec2"]):
        tifffile.imwrite(sections / f"{name}.tif", np.full((4, 6), value, np.uint8))
    arguments = [sections, "-o", tmp_path / "V.zarr", "--voxel-size", "40", "4", "4"]
    assert run_import(*arguments) == 2
    assert run_import(*arguments, "--order", "2") == 0
    assert voxels(tmp_path / "V.zarr")[:, 0, 0].tolist() == [0, 1]


def test_options_of_tiffs_are_refused_for_other_formats(tmp_path: Path) -> None:
    zarr.create_array(str(tmp_path / "raw.zarr"), shape=(2, 4, 6), dtype="uint8", attributes={"voxel_size": [4, 4, 4]})
    for option in (["--series", "0"], ["--order", "name"]):
        assert run_import(tmp_path / "raw.zarr", "-o", tmp_path / "V.zarr", *option) == 2


def test_the_order_of_section_files_is_shown(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for z, name in enumerate(["z-1", "z-2", "z1", "z2", "z3"]):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.random.default_rng(z).integers(0, 255, (40, 40), np.uint8))
    made = ["-o", str(tmp_path / "v.zarr"), "--voxel-size", "10", "10", "10"]
    assert exit_code(["import", str(tmp_path), *made, "--order", "name"]) == 0
    assert "sections: z1.tif, z2.tif, z3.tif, ... z-2.tif (5 files in this order)" in capfd.readouterr().err

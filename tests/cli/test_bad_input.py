"""Bad input: exit code 2, a message without a traceback, and nothing written."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from neuroseg.cli.main import exit_code
from tests.conftest import make_volume


def fails(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    assert exit_code(arguments) == 2
    captured = capfd.readouterr()
    assert "Traceback" not in captured.err
    assert captured.out == ""
    return captured.err


@pytest.mark.parametrize("command", ["info", "predict", "run"])
def test_a_missing_path_is_named(command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "nothere.zarr does not exist" in fails([command, str(tmp_path / "nothere.zarr")], capfd)


def test_a_text_file_is_not_a_zarr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "V.zarr").write_text("hello")
    assert "is not a zarr" in fails(["info", str(tmp_path / "V.zarr")], capfd)


@pytest.mark.parametrize(
    ("shape", "said"), [("20,96,96", "contains 20, expected 48 or more"), ("96x96", "neither a whole number nor")]
)
def test_a_demo_refuses_small_shapes(shape: str, said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert said in fails(["demo", str(tmp_path / "demo"), "--shape", shape], capfd)
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize("shape", [(30, 30), (1, 1, 8, 8, 8)])
def test_only_3d_arrays_are_volumes(shape: tuple[int, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    message = fails(["run", make_volume(tmp_path / "V.zarr", shape)], capfd)
    assert f"{len(shape)}D array" in message
    assert "3D array" in message


def test_a_missing_voxel_size_offers_the_option(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    zarr.create_array(str(tmp_path / "V.zarr"), shape=(8, 8, 8), dtype="u1")
    assert "--voxel-size" in fails(["run", str(tmp_path / "V.zarr")], capfd)
    assert not (tmp_path / "V.neuroseg").exists()


def test_float_raw_asks_for_its_range(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    zarr.create_array(str(tmp_path / "V.zarr"), shape=(8, 8, 8), dtype="f4", attributes={"voxel_size": [10, 10, 10]})
    assert "--range LOW HIGH" in fails(["run", str(tmp_path / "V.zarr")], capfd)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--model", "fib25_lihgt"], "did you mean fib25_light"),
        (["--blocks", "0"], "contains 0, expected 1 or more"),
        (["--blocks", "-4"], "contains -4, expected 1 or more"),
        (["--blocks", "big"], "neither a whole number nor three"),
        (["--roi", "0:10,0:10,0:999"], "outside the volume 0:40,0:50,0:45"),
        (["--roi", "5:5,0:10,0:10"], "is empty"),
        (["--roi", "everything"], "z0:z1,y0:y1,x0:x1"),
        (["--device", "cuda:7"], "does not exist"),
        (["--device", "toaster"], "unknown device"),
        (["--scoring", "median"], "unknown scoring 'median'"),
        (["--scoring", "quantlie:50"], "did you mean quantile:50?"),
        (["--normalise", "section"], "did you mean sections?"),
        (["--executor", "slrum"], "unknown executor"),
        (["--threshold", "7"], "is not between 0 and 1"),
        (["--workers", "0"], "is not between 1 and 100000"),
        (["--min-size", "small"], "neither a number of voxels (500) nor a volume"),
        (["--restart", "fragment"], "did you mean fragments"),
        (["--config", "nothere.yaml"], "cannot read nothere.yaml"),
    ],
)
def test_a_wrong_option_is_named(
    flags: list[str], said: str, raw_volume: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert said in fails(["run", raw_volume, *flags], capfd)
    assert not (tmp_path / "V.neuroseg").exists()


def test_an_unknown_command_names_the_close_one(capfd: pytest.CaptureFixture[str]) -> None:
    assert "did you mean segment" in fails(["segmnt"], capfd)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "error: missing argument 'VOLUME'\nhint: see neuroseg run --help\n"),
        (["run", "a", "b"], "error: got unexpected extra argument"),
        (["run", "a", "--workers", "two"], "error: invalid value for '--workers': "),
        (["run", "a", "--blokcs", "9"], "error: no such option: --blokcs\nhint: did you mean --blocks?\n"),
        (["cluster", "chekc"], "error: unknown command 'chekc'\nhint: did you mean check?\n"),
        (["models", "foo"], "error: unknown command 'foo'\nhint: use one of show, convert, tune\n"),
    ],
)
def test_wrong_usage_is_an_error_with_a_hint(
    arguments: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    found = fails(arguments, capfd)
    assert found.startswith(message)
    assert "\nhint: " in found


def test_an_unknown_key_in_a_configuration_names_the_close_one(
    raw_volume: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.yaml").write_text("treshold: 0.4\n")
    message = fails(["run", raw_volume, "--config", str(tmp_path / "run.yaml")], capfd)
    assert "unknown key 'treshold' (did you mean threshold?)" in message


def test_a_model_of_other_voxels_is_refused_without_force(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    volume = make_volume(tmp_path / "V.zarr", (8, 40, 40), voxel_size=[50, 4, 4])
    assert "--force" in fails(["run", volume], capfd)


def test_truth_of_another_shape_without_an_offset_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["seg"] = np.ones((8, 8, 8), np.uint32)
        file["truth"] = np.ones((8, 8, 7), np.uint32)
    message = fails(["evaluate", f"{tmp_path}/f.h5:seg", "--truth", f"{tmp_path}/f.h5:truth"], capfd)
    assert "(8, 8, 7)" in message
    assert "(8, 8, 8)" in message


def test_segment_before_predict_names_the_command_to_run(raw_volume: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert "neuroseg predict" in fails(["segment", raw_volume], capfd)


def test_status_refuses_a_path_without_a_workspace(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "is not a workspace" in fails(["status", str(tmp_path)], capfd)


def test_json_is_one_object_on_stdout(
    raw_volume: str, tiny_model: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    flags = ["--model", tiny_model, "--blocks", "64", "--executor", "serial", "--json"]
    for arguments in (["info", raw_volume, "--json"], ["models", "--json"], ["run", raw_volume, *flags]):
        assert exit_code(arguments) == 0
        assert isinstance(json.loads(capfd.readouterr().out), dict)
    workspace = str(tmp_path / "V.neuroseg")
    assert exit_code(["evaluate", workspace, "--truth", f"{workspace}/segmentation.zarr", "--sweep", "--json"]) == 0
    scores = json.loads(capfd.readouterr().out)
    assert scores["voi_sum"] == 0
    assert [row["threshold"] for row in scores["sweep"]] == [round(0.02 * n, 2) for n in range(1, 50)]
    stored = next(row for row in scores["sweep"] if row["threshold"] == scores["threshold"])
    assert stored["voi_sum"] == 0
    assert exit_code(["status", workspace, "--json"]) == 0
    assert all(row["left"] == 0 for row in json.loads(capfd.readouterr().out)["stages"])

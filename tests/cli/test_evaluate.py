"""The command `evaluate`: its output, and requests that it refuses before it reads a voxel."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr
from PIL import Image

from neuroseg.cli.main import exit_code
from neuroseg.evaluation import evaluate as module


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace w, its boundary map and truth; the truth has objects 1 to 4, separated by membranes of 0."""
    folder = tmp_path_factory.mktemp("evaluate")
    _, y, x = np.indices((12, 40, 44))
    truth = (1 + (x >= 22) + 2 * (y >= 20)).astype(np.uint64)
    truth[(abs(x - 22) < 2) | (abs(y - 20) < 2)] = 0
    boundaries = np.where(truth == 0, 0.9, 0.1).astype(np.float32)
    boundaries += np.random.default_rng(0).random(truth.shape).astype(np.float32) * 0.1
    boundaries[:, 8:12] = np.maximum(boundaries[:, 8:12], 0.6)  # splits objects 1 and 2
    boundaries[5, 18:22, 3:7] = 0.2  # merges objects 1 and 3
    for name, array in (("boundaries", boundaries), ("truth", truth)):
        attributes = {"voxel_size": [10, 10, 10], "offset": [0, 0, 0]}
        zarr.create_array(str(folder / f"{name}.zarr"), data=array, chunks=(12, 20, 20), attributes=attributes)
    with h5py.File(folder / "plain.h5", "w") as file:
        file["labels"] = truth
    arguments = ["segment", "--boundaries", f"{folder}/boundaries.zarr", "-o", f"{folder}/w", "--executor", "serial"]
    assert exit_code(arguments) == 0
    return folder


def evaluated(capfd: pytest.CaptureFixture[str], *arguments: object) -> dict:  # type: ignore[type-arg]
    capfd.readouterr()
    assert exit_code(["evaluate", *map(str, arguments), "--json"]) == 0
    found: dict = json.loads(capfd.readouterr().out)  # type: ignore[type-arg]
    return found


def test_plot_and_objects_are_written(volumes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    plot, objects = tmp_path / "curve.png", tmp_path / "errors.csv"
    found = evaluated(capfd, volumes / "w", "--truth", volumes / "truth.zarr", "--plot", plot, "--objects", objects)
    assert len(found["sweep"]) == 49
    stored = next(row for row in found["sweep"] if row["threshold"] == found["threshold"])
    assert {name: found[name] for name in stored} == pytest.approx(stored)
    with Image.open(plot) as image:
        assert image.format == "PNG"
    with objects.open() as file:
        rows = list(csv.DictReader(file))
    for error in ("split", "merge"):
        bits = sum(float(row["bits"]) for row in rows if row["error"] == error)
        assert bits == pytest.approx(found[f"voi_{error}"], abs=1e-7)
    assert {row["id"] for row in rows if row["error"] == "split"} == {"1", "2", "3", "4"}
    assert (found["plot"], found["objects"]) == (str(plot), str(objects))


def test_the_worst_errors_are_printed(volumes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", f"{volumes}/w", "--truth", f"{volumes}/truth.zarr", "--objects", f"{tmp_path}/errors.csv"]
    assert exit_code(arguments) == 0
    assert " (z,y,x)" in capfd.readouterr().out


def test_a_border_ignores_voxels_near_boundaries_in_any_region(
    volumes: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    request = (volumes / "w", "--truth", volumes / "truth.zarr", "--ignore", "0,4")
    plain, bordered = evaluated(capfd, *request), evaluated(capfd, *request, "--border-nm", 25)
    assert 0 < bordered["voxels"] < plain["voxels"]
    assert (bordered["ignore"], bordered["border_nm"]) == ([0, 4], 25)
    halves = [evaluated(capfd, *request, "--border-nm", 25, "--roi", roi) for roi in (":,:23,:", ":,23:,:")]
    assert sum(half["voxels"] for half in halves) == bordered["voxels"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--plot", "curve.pdf"], "curve.pdf ends in .pdf, expected .png\nhint: use curve.png"),
        (["--plot", "curve"], "hint: use curve.png"),
        (["--objects", "errors.tsv"], "hint: use errors.csv"),
        (["--plot", "nowhere/curve.png"], "the folder nowhere does not exist"),
        (["--objects", "folder.csv"], "folder.csv is a folder"),
        (["--plot", "/proc/curve.png"], "cannot write /proc/curve.png"),
        (["--border-nm", "-5"], "a border of -5 nm is not a length"),
        (["--border-nm", "nan"], "is not a length"),
        (["--border-nm", "inf"], "too wide"),
        (["--border-nm", "5000"], "at most 500"),
        (["--ignore", "0;7"], "is not a list of ids"),
        (["--roi", "0:10,0:10,0:99"], "reaches outside the volume"),
        (["--truth", "nothere.zarr"], "nothere.zarr does not exist"),
        (["--truth", "boundaries.zarr"], "labels must be integers"),
        (["--truth", "far.zarr"], "does not overlap"),
        (["--truth", "coarse.zarr"], "they must be equal"),
    ],
)
def test_a_wrong_request_is_refused_before_a_voxel_is_read(
    flags: list[str],
    said: str,
    volumes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "boundaries.zarr").symlink_to(volumes / "boundaries.zarr")
    for name, changed in (("far", {"offset": [0, 0, 9000]}), ("coarse", {"voxel_size": [20, 20, 20]})):
        attributes = {"voxel_size": [10, 10, 10], "offset": [0, 0, 0], **changed}
        zarr.create_array(str(tmp_path / f"{name}.zarr"), shape=(12, 40, 44), dtype="u8", attributes=attributes)
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(module.Volume, "read", lambda self, roi: pytest.fail("a voxel was read"))
    capfd.readouterr()
    assert exit_code(["evaluate", f"{volumes}/w", "--truth", f"{volumes}/truth.zarr", *flags]) == 2
    captured = capfd.readouterr()
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--sweep"], "--sweep needs the merge tree of a workspace"),
        (["--plot", "curve.png"], "--plot needs the merge tree of a workspace"),
        (["--border-nm", "20"], "needs a voxel size"),
    ],
)
def test_a_plain_label_volume_has_no_merge_tree_and_may_have_no_voxel_size(
    flags: list[str],
    said: str,
    volumes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    labels = f"{volumes}/plain.h5:labels"
    assert exit_code(["evaluate", labels, "--truth", labels, *flags]) == 2
    assert said in capfd.readouterr().err
    found = evaluated(capfd, labels, "--truth", labels, "--objects", "errors.csv")
    assert found["voi_sum"] == 0

"""The command `suspects`: places in small real runs, its files, and requests that it refuses."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from neuroseg.checks.suspects import errors_of, suspects_of
from neuroseg.cli.main import exit_code
from neuroseg.evaluation.suspect import DOUBTFUL_MERGE, DOUBTFUL_SPLIT, END, SMALL_CONTACT
from neuroseg.storage.workspace import Workspace

SIZE_NM, OFFSET_NM = [20, 10, 10], [100, -30, 50]
SHAPE = (16, 48, 80)


def tubes() -> NDArray[np.uint64]:
    """Three neurites of 10 x 10 voxels along x, and number 4, which is thinner and ends inside at both ends."""
    truth = np.zeros(SHAPE, np.uint64)
    for number in range(3):
        truth[3:13, 2 + 12 * number : 12 + 12 * number] = number + 1
    truth[6:10, 40:45, 4:76] = 4
    truth[5:11, 39:46, 4:9] = 4  # the thicker end is nearer to the centre
    return truth


def affinities_of(truth: NDArray[np.uint64]) -> NDArray[np.float32]:
    """Affinities (3, z, y, x) of offsets -1: 0.95 within a neurite, 0 elsewhere."""
    links = np.zeros((3, *truth.shape), np.float32)
    for axis in range(3):
        lower, upper = np.moveaxis(truth, axis, 0)[:-1], np.moveaxis(truth, axis, 0)[1:]
        np.moveaxis(links[axis], axis, 0)[1:] = np.where((lower == upper) & (lower > 0), 0.95, 0.0)
    for y, across in ((2, 0.52), (14, 0.47)):
        # Neurite 1 is nearly cut (a doubtful merge), neurite 2 is just cut (a doubtful split).
        links[:2, :, y : y + 10, 30] *= 0.2
        links[2, :, y : y + 10, 30:32] = np.minimum(links[2, :, y : y + 10, 30:32], across)
    links[:, 7:9, 12:14, 20:22] = links[1, 7:9, 14, 20:22] = 0.9  # a small contact of neurites 1 and 2
    return links


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with truth.zarr, affinities A.zarr and the workspaces w (blocks 16,24,32), small, part, masked."""
    folder = tmp_path_factory.mktemp("suspects")
    truth = tubes()
    placed = {"voxel_size": SIZE_NM, "offset": OFFSET_NM}
    offsets = {"offsets": [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]}
    mask = np.ones(SHAPE, np.uint8)
    mask[..., 60:] = 0
    for name, array, more in (("truth", truth, {}), ("A", affinities_of(truth), offsets), ("mask", mask, {})):
        zarr.create_array(str(folder / f"{name}.zarr"), data=array, chunks=array.shape, attributes={**placed, **more})
    common = ["segment", "--affinities", f"{folder}/A.zarr", "--mask-boundary", "0.1", "--executor", "serial"]
    for name, more in (
        ("w", ["--blocks", "16,24,32"]),
        ("small", ["--blocks", "8,16,20"]),
        ("part", ["--roi", "0:16,0:30,4:60"]),
        ("masked", ["--mask", f"{folder}/mask.zarr"]),
    ):
        assert exit_code([*common, "-o", f"{folder}/{name}", *more]) == 0
    return folder


def stored(workspace: Path) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The segmentation and the fragments."""
    paths = (workspace / "segmentation.zarr" / "0", workspace / "fragments.zarr")
    segments, fragments = (np.asarray(zarr.open_array(str(path), mode="r")[:]) for path in paths)
    return segments, fragments


def listed(capfd: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, Any]]:
    capfd.readouterr()
    assert exit_code(["suspects", *map(str, arguments), "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capfd.readouterr().out)["suspects"]
    return found


@pytest.mark.parametrize("name", ["w", "part", "masked"])
def test_places_are_on_the_contact(name: str, runs: Path) -> None:
    found = suspects_of(str(runs / name))
    segments, fragments = stored(runs / name)
    assert found
    assert [each.bits for each in found] == sorted((each.bits for each in found), reverse=True)
    for each in found:
        place, other = each.place_voxels, each.other_voxels
        assert (segments[place], fragments[place]) == (each.segments[0], each.fragments[0])
        assert each.place_nm == tuple(np.array(OFFSET_NM) + np.array(SIZE_NM) * (np.array(place) + 0.5))
        if each.kind != END:
            assert other is not None
            assert (segments[other], fragments[other]) == (each.segments[-1], each.fragments[-1])
            assert np.abs(np.subtract(place, other)).sum() == 1
            assert (each.kind == DOUBTFUL_SPLIT) == (len(each.segments) == 2)


def test_each_kind_is_found_at_its_place(runs: Path) -> None:
    found = suspects_of(str(runs / "w"))
    first = {each.kind: each for each in reversed(found)}
    assert set(first) == {DOUBTFUL_MERGE, DOUBTFUL_SPLIT, SMALL_CONTACT, END}
    merge, split, contact, end = (first[kind] for kind in (DOUBTFUL_MERGE, DOUBTFUL_SPLIT, SMALL_CONTACT, END))
    assert 29 <= merge.place_voxels[2] <= 31
    assert 2 <= merge.place_voxels[1] < 12
    assert merge.score == pytest.approx(0.48, abs=0.01)
    assert 29 <= split.place_voxels[2] <= 31
    assert 14 <= split.place_voxels[1] < 24
    assert split.score == pytest.approx(0.53, abs=0.01)
    assert 11 <= contact.place_voxels[1] <= 14
    assert end.place_voxels[2] == 75
    assert 40 <= end.place_voxels[1] < 45


def test_the_lists_do_not_depend_on_blocks_or_boxes(runs: Path) -> None:
    found = suspects_of(str(runs / "w"), top=None)
    assert suspects_of(str(runs / "small"), top=None) == found
    assert suspects_of(str(runs / "w"), top=None, box_voxels=100) == found
    assert suspects_of(str(runs / "w"), top=2) == found[:2]
    truth = str(runs / "truth.zarr")
    errors = errors_of(str(runs / "w"), truth, top=None)
    assert errors
    assert errors_of(str(runs / "small"), truth, top=None) == errors
    assert errors_of(str(runs / "w"), truth, top=None, box_voxels=500) == errors


def test_a_tip_at_the_border_of_the_mask_or_region_is_not_a_suspect(runs: Path) -> None:
    # The mask cuts neurite 4 at x = 60, its far end. The region leaves it out.
    for name in ("masked", "part"):
        assert END not in {each.kind for each in suspects_of(str(runs / name), top=None)}


@pytest.mark.parametrize("name", ["w", "part", "masked"])
def test_bits_of_all_errors_sum_to_the_scores(name: str, runs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    errors = listed(capfd, runs / name, "--truth", runs / "truth.zarr", "--top", 10**6)
    assert exit_code(["evaluate", f"{runs}/{name}", "--truth", f"{runs}/truth.zarr", "--json"]) == 0
    scores = json.loads(capfd.readouterr().out)
    segments, fragments = stored(runs / name)
    truth = tubes()
    for kind in ("split", "merge"):
        assert sum(each["bits"] for each in errors if each["kind"] == kind) == pytest.approx(scores[f"voi_{kind}"])
    for each in errors:
        place = tuple(each["place_voxels"])
        assert (segments[place], truth[place]) == (each["segments"][0], each["truth"][0])
        assert each["fragments"] == [] or fragments[place] == each["fragments"][0]
    # The small contact merges neurites 1 and 2.
    worst = next(each for each in errors if each["kind"] == "merge")
    assert sorted(worst["truth"]) == [1, 2]


def test_options_of_the_truth_are_those_of_evaluate(runs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = ("--roi", "2:12,:,:40", "--ignore", "0,3", "--border-nm", "15")
    errors = listed(capfd, runs / "w", "--truth", runs / "truth.zarr", "--top", 10**6, *options)
    arguments = ["evaluate", f"{runs}/w", "--truth", f"{runs}/truth.zarr", *options, "--json"]
    assert exit_code(arguments) == 0
    scores = json.loads(capfd.readouterr().out)
    assert sum(each["bits"] for each in errors) == pytest.approx(scores["voi_sum"])
    assert all(3 not in each["truth"] for each in errors)


def test_a_label_volume_has_errors_without_fragments(runs: Path) -> None:
    labels, truth = f"{runs}/w/segmentation.zarr", f"{runs}/truth.zarr"
    errors, expected = errors_of(labels, truth), errors_of(str(runs / "w"), truth)
    assert [each.place_voxels for each in errors] == [each.place_voxels for each in expected]
    assert not any(each.fragments for each in errors)
    assert errors_of(truth, truth) == []


def test_files_and_table(runs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    table, layer = tmp_path / "s.csv", tmp_path / "s.json"
    arguments = ["suspects", f"{runs}/w", "--top", "3", "--csv", f"{table}", "--neuroglancer", f"{layer}"]
    assert exit_code(arguments) == 0
    printed = capfd.readouterr().out.splitlines()
    assert printed[0].split() == ["bits", "kind", "z,y,x", "description"]
    found = suspects_of(str(runs / "w"), top=3)
    with table.open() as file:
        rows = list(csv.DictReader(file))
    annotations = json.loads(layer.read_text())["annotations"]
    assert len(printed) - 1 == len(rows) == len(annotations) == 3
    for line, row, each, annotation in zip(printed[1:], rows, found, annotations, strict=True):
        assert line.endswith(each.description)
        assert [int(row[axis]) for axis in "zyx"] == list(each.place_voxels)
        ends = annotation["point"] if annotation["type"] == "point" else annotation["pointA"]
        assert ends == list(each.place_voxels)[::-1]
    # The image states the offset 50, -30, 100 (x, y, z) of voxel 0, and viewers draw voxel 0 around it.
    matrix = json.loads(layer.read_text())["source"]["transform"]["matrix"]
    assert [row[3] for row in matrix] == [5, -3, 5]
    assert exit_code(["suspects", f"{runs}/truth.zarr", "--truth", f"{runs}/truth.zarr"]) == 0
    assert capfd.readouterr().out == "no errors found\n"


def test_without_edges_small_contacts_are_not_searched(
    runs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(runs / "w", tmp_path / "w")
    shutil.rmtree(Workspace(tmp_path / "w").edges)  # type: ignore[arg-type]
    found = suspects_of(str(tmp_path / "w"), top=None)
    assert "small contacts are not searched" in caplog.text
    assert {each.kind for each in found} == {DOUBTFUL_MERGE, DOUBTFUL_SPLIT, END}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--top", "0"], "expected 1 or more"),
        (["--csv", "s.tsv"], "s.tsv ends in .tsv, expected .csv\nhint: use s.csv"),
        (["--neuroglancer", "s.txt"], "hint: use s.json"),
        (["--roi", ":,:,:"], "--roi needs --truth"),
        (["--ignore", "0,1"], "--ignore needs --truth"),
        (["--border-nm", "5"], "--border-nm needs --truth"),
        (["--truth", "far.zarr"], "does not overlap"),
        (["--truth", "nothere.zarr"], "nothere.zarr does not exist"),
        (["--truth", "far.zarr", "--ignore", "a"], "is not a list of ids"),
    ],
)
def test_a_wrong_request_is_refused(
    flags: list[str],
    said: str,
    runs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    far = {"voxel_size": SIZE_NM, "offset": [100, -30, 90_050]}
    zarr.create_array("far.zarr", shape=SHAPE, dtype="u8", attributes=far)
    assert exit_code(["suspects", f"{runs}/w", *flags]) == 2
    captured = capfd.readouterr()
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert [path.name for path in tmp_path.iterdir()] == ["far.zarr"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (["agglomeration: tree", "agglomeration: multicut"], "--agglomeration multicut computes one segmentation"),
        (["threshold: 0.5", "threshold: 0.6"], "is not finished"),
    ],
)
def test_a_run_without_its_tree_is_refused(
    changed: list[str], said: str, runs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs / "w", tmp_path / "w")
    text = (tmp_path / "w" / "run.yaml").read_text()
    assert changed[0] in text
    (tmp_path / "w" / "run.yaml").write_text(text.replace(*changed))
    assert exit_code(["suspects", f"{tmp_path}/w"]) == 2
    assert said in capfd.readouterr().err


@pytest.mark.parametrize(
    ("removed", "said"),
    [
        ("segmentation.zarr", "has no segmentation yet"),
        ("fragments.zarr", "has no fragments or no merge tree"),
        ("run.yaml", "is not a workspace"),
    ],
)
def test_a_workspace_without_its_artifacts_is_refused(
    removed: str, said: str, runs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs / "w", tmp_path / "w")
    (tmp_path / "w" / removed).rename(tmp_path / removed)
    assert exit_code(["suspects", f"{tmp_path}/w"]) == 2
    assert said in capfd.readouterr().err

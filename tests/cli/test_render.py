"""The command `render`: chosen segments, levels, comparison with another segmentation and with truth, refusals."""

from __future__ import annotations

from pathlib import Path

import matplotlib.colors
import numpy as np
import pytest
import zarr
from PIL import Image

from neuroseg.checks import rendering
from neuroseg.cli.main import exit_code
from neuroseg.views.colours import colours_of
from neuroseg.views.neuron_picture import ARROWS

SIZE_NM = [40, 10, 10]


def bricks() -> np.ndarray:
    """Segments 3 (largest), 5 and 9: bricks beside each other along x, with membranes of 0 between them."""
    labels = np.zeros((16, 60, 150), np.uint64)
    for segment, begin, end in ((5, 4, 40), (3, 44, 110), (9, 114, 146)):
        labels[2:14, 10:50, begin:end] = segment
    return labels


def write(path: Path, labels: np.ndarray, offset_nm: tuple[float, ...] = (0, 0, 0)) -> str:
    attributes = {"voxel_size": SIZE_NM, "offset": list(offset_nm)}
    zarr.create_array(str(path), data=labels, chunks=(8, 32, 32), attributes=attributes)
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace w from boundaries, the truth, and another segmentation that splits 3 and merges its end with 9."""
    folder = tmp_path_factory.mktemp("render")
    labels = bricks()
    write(folder / "truth.zarr", labels)
    other = labels.copy()
    other[:, :, 80:][labels[:, :, 80:] > 0] = 4
    write(folder / "other.zarr", other)
    boundaries = np.where(labels == 0, 0.95, 0.02).astype(np.float32)
    zarr.create_array(str(folder / "boundaries.zarr"), data=boundaries, attributes={"voxel_size": SIZE_NM})
    given = ["segment", "--boundaries", f"{folder}/boundaries.zarr", "-o", f"{folder}/w", "--executor", "serial"]
    assert exit_code([*given, "--mask-boundary", "0.5"]) == 0
    return folder


def printed(capfd: pytest.CaptureFixture[str], *arguments: object) -> str:
    capfd.readouterr()
    assert exit_code(["render", *map(str, arguments)]) == 0
    return capfd.readouterr().out


def is_like(pixels: np.ndarray, segment: int) -> np.ndarray:
    """The mask of pixels with the hue of a segment's colour, however bright."""
    colour = colours_of(np.array([segment]))[0, :3]
    lit = pixels / 255.0
    shade = lit - lit.min(axis=-1, keepdims=True)
    pure = colour - colour.min()
    scale = shade.max(axis=-1, keepdims=True)
    return (abs(shade / np.maximum(scale, 1e-6) - pure / pure.max()) < 0.08).all(axis=-1) & (scale[..., 0] > 0.1)


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_chosen_segments_have_their_places_and_colours(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    output = folder / "a.png"
    out = printed(capfd, folder / "truth.zarr", "--ids", "9,5", "-o", output, "--size", 600, "--level", 0)
    assert out.startswith(f"{output}: 2 segments at level 0, ")
    pixels = pixels_of(output)
    nm_per_pixel = (146 - 4) * 10 / (600 * 0.92)
    for segment, begin, end in ((5, 4, 40), (9, 114, 146)):
        columns = np.flatnonzero(is_like(pixels, segment).sum(axis=0) > 20)
        left = 0.04 * 600 + (begin - 4) * 10 / nm_per_pixel
        assert columns[0] == pytest.approx(left, abs=3)
        assert columns[-1] == pytest.approx(left + (end - begin) * 10 / nm_per_pixel, abs=3)
    assert not is_like(pixels, 3).any()


def test_the_largest_segments_are_those_with_the_most_voxels(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    labels = rendering.labels_at(str(folder / "truth.zarr"))
    table = rendering.segments_of(labels)
    for ids, wanted in (("largest:2", [3, 5]), ("largest:9", [3, 5, 9]), ("9, 3,9", [9, 3])):
        rows = rendering.chosen_rows(table, ids, labels)
        assert [int(table["segment"][row]) for row in rows] == wanted


def test_a_workspace_and_its_segmentation_as_an_image_give_the_same_picture(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, path in (("a", folder / "w"), ("b", folder / "w/segmentation.zarr")):
        for view in ("side", "-30,25"):
            given = ("--ids", "largest:3", "-o", tmp_path / f"{name}{view}.png", "--view", view, "--size", 300)
            assert "3 segments at level 0" in printed(capfd, path, *given)
    for view in ("side", "-30,25"):
        assert (tmp_path / f"a{view}.png").read_bytes() == (tmp_path / f"b{view}.png").read_bytes()


def test_the_level_suits_the_picture_or_is_the_chosen_one(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = (folder / "truth.zarr", "--ids", "3", "-o", tmp_path / "a.png")
    assert "at level 0," in printed(capfd, *given)
    look = rendering.Look(size_pixels=100)
    labels = rendering.labels_at(str(folder / "truth.zarr"))
    assert labels.factors == ((1, 1, 1), (1, 2, 2))
    # A pixel shows 15 or 21 nm; the voxels of level 1 are 20 nm wide.
    for longest, level in ((150, 0), (210, 1)):
        boxes = [rendering.Roi((0, 0, 0), (16, 60, longest))]
        assert rendering.suitable_level(labels, boxes, look, 2**26) == level
    assert rendering.suitable_level(labels, [rendering.Roi((0, 0, 0), (16, 60, 150))], look, 16 * 60 * 150 - 1) == 1
    assert "at level 1 (1 x 2 x 2 voxels each)," in printed(capfd, *given, "--level", 1)


def test_a_comparison_marks_where_the_other_segmentation_differs(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "a.png"
    given = (folder / "truth.zarr", "--compare", folder / "other.zarr", "-o", output, "--size", 300)
    out = printed(capfd, *given, "--ids", 3)
    assert out.splitlines() == [
        f"{output}: segment 3 at level 0",
        f"  other.zarr: split, segment 4, {12 * 40 * 30} voxels, at 7,29,80 (z,y,x)",
        # The region reaches 16 voxels beyond the neuron, which ends at 110; the merged neuron begins at 114.
        f"  other.zarr: merge, segment 4 with segment 9, {12 * 40 * 12} voxels, at 7,29,114 (z,y,x)",
    ]
    pixels = pixels_of(output)
    assert pixels.shape[1] == 2 * 300 + 9
    left, right = pixels[:, :300], pixels[:, 309:]
    for error, colour in ARROWS.items():
        assert has_colour(right, colour), error
        assert not has_colour(left, colour), error


def has_colour(pixels: np.ndarray, colour: str) -> bool:
    wanted = np.array(matplotlib.colors.to_rgb(colour)) * 255
    return bool((abs(pixels.astype(int) - wanted) < 6).all(axis=-1).sum() > 10)


def test_with_truth_both_segmentations_have_errors(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "a.png"
    given = ("--truth", folder / "truth.zarr", "-o", output, "--size", 300)
    out = printed(capfd, folder / "other.zarr", "--compare", folder / "w", *given, "--ids", 3)
    lines = out.splitlines()
    assert lines[0] == f"{output}: true object 3 at level 0"
    # Segment 3 has 36 of the 66 voxels along x: the smaller piece is segment 4.
    assert [line.split(",")[0] for line in lines[1:]] == ["  other.zarr: split", "  other.zarr: merge"]
    assert f"segment 4, {12 * 40 * 30} voxels, at 7,29,80 (z,y,x)" in lines[1]
    assert f"segment 4 with true object 9, {12 * 40 * 12} voxels, at 7,29,114 (z,y,x)" in lines[2]
    assert pixels_of(output).shape[1] == 3 * 300 + 2 * 9


def test_labels_that_cover_a_part_elsewhere_in_space_are_placed(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    labels = bricks()[:, 5:, 41:]
    labels[:, :, 39:][labels[:, :, 39:] == 3] = 4
    part = write(tmp_path / "part.zarr", labels, (0, 50, 410))
    given = (folder / "truth.zarr", "--compare", part, "-o", tmp_path / "a.png", "--ids", 3, "--size", 300)
    assert f"split, segment 4, {12 * 40 * 30} voxels, at 7,29,80" in printed(capfd, *given)
    # As truth, it also has a box at its own place.
    out = printed(capfd, folder / "truth.zarr", "--truth", part, "-o", tmp_path / "a.png", "--ids", 3, "--size", 300)
    assert out.splitlines()[0].endswith("true object 3 at level 0")
    assert f"merge, segment 3 with true object 4, {12 * 40 * 16} voxels, at 7,29,80" in out
    # At a coarser level, the part begins between two voxels.
    out = printed(capfd, *given, "--level", 1)
    assert "part.zarr: split, segment 4" in out
    assert ",80 (z,y,x)" in out


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--ids", "4"], "segment 4 is not in truth.zarr, which has 3 segments with ids from 3 to 9"),
        (["--ids", "4"], "hint: the nearest id is 3"),
        (["--ids", "6"], "hint: the nearest id is 5"),
        (["--ids", "5,99"], "hint: the nearest id is 9"),
        (["--ids", "0"], "segment 0 is not in"),
        (["--ids", "99999999999999999999"], "the nearest id is 9"),
        (["--ids", "largest:0"], "is not a list of ids"),
        (["--ids", "5;7"], "is not a list of ids"),
        (["--ids", "5", "--view", "back"], "expected front, side, top or two angles"),
        (["--ids", "5", "--size", "5"], "not between 100 and 8000"),
        (["--ids", "5", "--level", "7"], "has 2 levels (0 to 1), found --level 7"),
        (["--ids", "5", "-o", "a.jpg"], "expected .png"),
        (["--ids", "5,9", "--compare", "truth.zarr"], "names 2 segments, expected one to compare"),
        (["--ids", "5", "--compare", "boundaries.zarr"], "labels must be integers"),
        (["--ids", "5", "--compare", "far.zarr"], "does not overlap"),
        (["--ids", "5", "--truth", "empty.zarr"], "segment 5 overlaps no true object"),
    ],
)
def test_a_wrong_request_is_refused(
    flags: list[str], said: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name in ("truth", "boundaries"):
        (tmp_path / f"{name}.zarr").symlink_to(folder / f"{name}.zarr")
    write(tmp_path / "far.zarr", bricks(), (0, 0, 90_000))
    write(tmp_path / "empty.zarr", np.zeros((16, 60, 150), np.uint64))
    before = sorted(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    capfd.readouterr()
    assert exit_code(["render", "truth.zarr", "-o", "a.png", *flags]) == 2
    assert said in capfd.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_a_level_that_needs_too_much_memory_is_refused_with_one_that_fits(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rendering, "_MOST_VOXELS", 12 * 40 * 66 - 1)
    given = ["render", f"{folder}/truth.zarr", "--ids", "3", "-o", f"{tmp_path}/a.png"]
    assert exit_code([*given, "--level", "0"]) == 2
    assert "--level 1" in capfd.readouterr().err
    assert "at level 1 (1 x 2 x 2 voxels each)" in printed(capfd, *given[1:])

"""The command `figure`: its columns and region for each kind of workspace, and requests that it refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from PIL import Image

from neuroseg.checks import region_figure
from neuroseg.cli.main import exit_code
from neuroseg.views.figure import planes_figure

SHAPE = (12, 40, 44)
OFFSET_NM = (120, 0, 80)
STATED = {"voxel_size": [40, 10, 10], "offset": list(OFFSET_NM)}


def quarters() -> np.ndarray:
    """Objects 1 to 4, separated by membranes of 0."""
    _, y, x = np.indices(SHAPE)
    labels = (1 + (x >= 22) + 2 * (y >= 20)).astype(np.uint64)
    labels[(abs(x - 22) < 2) | (abs(y - 20) < 2)] = 0
    return labels


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: str) -> Path:
    """Anisotropic workspaces of one volume, offset in space: raw, boundaries, affinities, region and mask."""
    folder = tmp_path_factory.mktemp("figure")
    labels = quarters()
    noise = np.random.default_rng(0).random(SHAPE).astype(np.float32) * 0.1
    boundaries = np.where(labels == 0, 0.9, 0.0).astype(np.float32) + noise
    mask = np.zeros(SHAPE, np.uint8)
    mask[:, :, 30:] = 1
    arrays = {
        "truth": labels, "boundaries": boundaries, "raw": np.round(255 * (1 - boundaries)).astype(np.uint8),
        "mask": mask,
    }  # fmt: skip
    for name, array in arrays.items():
        zarr.create_array(str(folder / f"{name}.zarr"), data=array, chunks=(12, 20, 20), attributes=STATED)
    affinities = np.stack([factor * (1 - boundaries) for factor in (1.0, 0.95, 0.9)]).astype(np.float32)
    stated = {**STATED, "offsets": [[0, 0, -1], [0, -1, 0], [-1, 0, 0]]}
    zarr.create_array(str(folder / "affinities.zarr"), data=affinities, chunks=(1, 12, 20, 20), attributes=stated)
    given = ["segment", "--boundaries", f"{folder}/boundaries.zarr", "--executor", "serial"]
    commands = {
        "raw": [
            "run",
            f"{folder}/raw.zarr",
            "--model",
            tiny_model,
            "--executor",
            "serial",
            "--force",
            "--blocks",
            "24",
        ],
        "affinities": ["segment", "--affinities", f"{folder}/affinities.zarr", "--executor", "serial"],
        "boundaries": given,
        "region": [*given, "--roi", "2:10,5:35,4:40"],
        "masked": [*given, "--mask", f"{folder}/mask.zarr", "--blocks", "12,20,8"],
    }
    for name, command in commands.items():
        assert exit_code([*command, "-o", f"{folder}/{name}"]) == 0
    return folder


def drawn(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[str, str]:
    """What the command prints on stdout and stderr."""
    capfd.readouterr()
    assert exit_code(["figure", *map(str, arguments)]) == 0
    captured = capfd.readouterr()
    return captured.out, captured.err


@pytest.mark.parametrize(
    ("workspace", "columns", "region"),
    [
        ("raw", "raw, affinities, fragments, segmentation", "0:12,0:40,0:44"),
        ("affinities", "affinities, fragments, segmentation", "0:12,0:40,0:44"),
        ("boundaries", "boundaries, fragments, segmentation", "0:12,0:40,0:44"),
        ("region", "boundaries, fragments, segmentation", "2:10,5:35,4:40"),
        ("masked", "boundaries, fragments, segmentation", "0:12,0:40,0:44"),
    ],
)
def test_each_kind_of_workspace_is_drawn(
    workspace: str, columns: str, region: str, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "a.png"
    printed, notes = drawn(capfd, folder / workspace, "-o", output, "--truth", folder / "truth.zarr")
    assert (printed, notes) == (f"{output}: {columns}, truth of {region}\n", "")
    with Image.open(output) as image:
        assert (image.format, image.width) == ("PNG", 2000)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def planes_of(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> dict:  # type: ignore[type-arg]
    """What the command hands to the figure."""
    handed: dict = {}  # type: ignore[type-arg]

    def keep(path: Path, planes: dict, **more: object) -> None:  # type: ignore[type-arg]
        handed.update(planes=planes, **more)
        planes_figure(path, planes, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(region_figure, "planes_figure", keep)
    assert exit_code(["figure", *map(str, arguments)]) == 0
    return handed


def test_the_planes_are_those_through_the_middle_of_the_region(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = (folder / "raw", "-o", tmp_path / "a.png", "--roi", "2:10,5:35,20:44", "--truth", folder / "truth.zarr")
    handed = planes_of(monkeypatch, *given, "--title", "T")
    assert (handed["cuts"], handed["extent_nm"], handed["title"]) == ((6, 20, 32), [8 * 40, 300, 240], "T")
    stored = {
        "raw": zarr.open_array(str(folder / "raw.zarr"), mode="r")[:],
        "affinities": zarr.open_array(str(folder / "raw/affinities.zarr"), mode="r")[:],
        "fragments": zarr.open_array(str(folder / "raw/fragments.zarr"), mode="r")[:],
        "segmentation": zarr.open_array(str(folder / "raw/segmentation.zarr/0"), mode="r")[:],
        "truth": quarters(),
    }
    assert list(handed["planes"]) == list(stored)
    for name, array in stored.items():
        xy, xz, yz = handed["planes"][name]
        np.testing.assert_array_equal(xy, array[..., 6, 5:35, 20:44])
        np.testing.assert_array_equal(xz, array[..., 2:10, 20, 20:44])
        np.testing.assert_array_equal(yz, array[..., 2:10, 5:35, 32])


def test_affinities_are_drawn_in_the_order_z_y_x(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handed = planes_of(monkeypatch, folder / "affinities", "-o", tmp_path / "a.png")
    given = zarr.open_array(str(folder / "affinities.zarr"), mode="r")[:, 6][::-1]
    np.testing.assert_array_equal(handed["planes"]["affinities"][0], np.floor(255 * given + np.float32(0.5)))


def test_a_truth_that_covers_a_part_is_placed_and_the_region_is_in_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = quarters()[3:9, 10:30, 11:41]
    attributes = {"voxel_size": [40, 10, 10], "offset": [120 + 3 * 40, 100, 80 + 110]}
    zarr.create_array(str(tmp_path / "part.zarr"), data=part, attributes=attributes)
    given = (folder / "boundaries", "-o", tmp_path / "a.png", "--truth", tmp_path / "part.zarr")
    handed = planes_of(monkeypatch, *given)
    assert handed["cuts"] == (6, 20, 26)
    np.testing.assert_array_equal(handed["planes"]["truth"][0], part[3])
    handed = planes_of(monkeypatch, *given, "--roi", "0:12,0:40,0:44")
    wanted = np.zeros((40, 44))
    wanted[10:30, 11:41] = part[3]
    np.testing.assert_array_equal(handed["planes"]["truth"][0], wanted)


def test_the_default_region_is_a_crop_in_the_middle_and_inside_the_mask(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(region_figure, "_LONGEST_EDGE_VOXELS", 10)
    handed = planes_of(monkeypatch, folder / "region", "-o", tmp_path / "a.png")
    assert (handed["cuts"], handed["extent_nm"]) == ((6, 20, 22), [320, 100, 100])
    handed = planes_of(monkeypatch, folder / "masked", "-o", tmp_path / "a.png")
    assert (handed["planes"]["segmentation"][0] > 0).any()
    assert handed["cuts"][2] >= 28  # the first blocks that touch the mask begin at 24


def test_removed_layers_are_left_out_and_named(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(folder / "raw", tmp_path / "kept")
    assert exit_code(["clean", f"{tmp_path}/kept", "--keep", "segmentation"]) == 0
    printed, notes = drawn(capfd, tmp_path / "kept", "-o", tmp_path / "a.png")
    assert printed == f"{tmp_path}/a.png: raw, segmentation of 0:12,0:40,0:44\n"
    removed = "does not exist: not computed yet, or removed by --keep or neuroseg clean"
    assert notes.splitlines() == [
        f"  left out affinities: affinities.zarr {removed}", f"  left out fragments: fragments.zarr {removed}",
    ]  # fmt: skip


def test_a_missing_shard_is_not_drawn_as_zeros(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(folder / "raw", tmp_path / "damaged")
    (tmp_path / "damaged/fragments.zarr/c/0/0/0").unlink()
    _, notes = drawn(capfd, tmp_path / "damaged", "-o", tmp_path / "a.png")
    assert notes.startswith("  left out fragments: ")
    assert "missing or truncated on disk" in notes


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["-o", "a.pdf"], "a.pdf ends in .pdf, expected .png\nhint: use a.png"),
        (["-o", "nowhere/a.png"], "the folder nowhere does not exist"),
        (["-o", "a.png", "--roi", "0:99,:,:"], "reaches outside the volume"),
        (["-o", "a.png", "--roi", "5"], "is not of the form"),
        (["-o", "a.png", "--truth", "none.zarr"], "none.zarr does not exist"),
    ],
)
def test_a_wrong_request_is_refused(
    flags: list[str], said: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    capfd.readouterr()
    assert exit_code(["figure", f"{folder}/boundaries", *flags]) == 2
    assert said in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_our_arrays_state_the_names_and_units_of_their_axes(folder: Path) -> None:
    for name, axes, units in (
        ("affinities.zarr", ("c", "z", "y", "x"), ["", "40 nm", "10 nm", "10 nm"]),
        ("fragments.zarr", ("z", "y", "x"), ["40 nm", "10 nm", "10 nm"]),
        ("segmentation.zarr/0", ("z", "y", "x"), ["40 nm", "10 nm", "10 nm"]),
    ):
        array = zarr.open_array(str(folder / "raw" / name), mode="r")
        assert array.metadata.dimension_names == axes
        assert array.attrs["dimension_units"] == units
    image = zarr.open_group(str(folder / "raw/segmentation.zarr"), mode="r").attrs["ome"]
    assert image["multiscales"][0]["name"] == "segmentation"  # type: ignore[index,call-overload]

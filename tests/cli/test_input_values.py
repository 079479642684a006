"""Checks of values and chunks by import, run and evaluate before they write anything."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from scipy import ndimage

from neuroseg.cli.main import exit_code
from neuroseg.storage.arrays import open_array
from neuroseg.volumes.volume import open_volume
from tests.conftest import make_volume


def store(path: Path, values: np.ndarray, **more: Any) -> str:
    array = zarr.create_array(
        str(path), shape=values.shape, dtype=values.dtype, attributes={"voxel_size": [10, 10, 10]}, **more
    )
    array[:] = values
    return str(path)


def raw() -> np.ndarray:
    smooth = ndimage.gaussian_filter(np.random.default_rng(3).random((16, 40, 40)), 2)
    return np.round(255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)


def labels() -> np.ndarray:
    z, y, x = np.indices((16, 40, 40)) // 8
    return (1 + x + 5 * y + 25 * z).astype(np.uint16)


@pytest.fixture(autouse=True)
def warnings_on_stderr() -> Iterator[None]:
    """Print warnings on stderr: pytest prevents the command line from adding its handler."""
    handler = logging.StreamHandler()
    handler.emit = lambda record: print("WARNING:", record.getMessage(), file=sys.stderr)  # type: ignore[method-assign]
    logging.getLogger("neuroseg").addHandler(handler)
    yield
    logging.getLogger("neuroseg").removeHandler(handler)


def ended(arguments: list[object], capfd: pytest.CaptureFixture[str], code: int) -> str:
    """Return stderr of a command. It must end with exit code `code`."""
    capfd.readouterr()
    assert exit_code([str(argument) for argument in arguments]) == code
    return capfd.readouterr().err


def voxels(path: Path) -> np.ndarray:
    volume = open_volume(str(path))
    return volume.read(volume.roi)


def test_12_bits_are_refused_until_the_range_is_given(
    tiny_model: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    dark = store(tmp_path / "dark.zarr", raw().astype(np.uint16) * 16)
    made = ["-o", tmp_path / "made.zarr"]
    assert "--range 0 4095" in ended(["import", dark, *made], capfd, 2)
    run = ["run", dark, "--model", tiny_model, "--executor", "serial", "-o", tmp_path / "w"]
    assert "--range 0 4095" in ended(run, capfd, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dark.zarr"]
    assert "WARNING" not in ended(["import", dark, *made, "--range", "0", "4080"], capfd, 0)
    assert np.array_equal(voxels(tmp_path / "made.zarr"), raw())
    assert "WARNING" not in ended([*run, "--range", "0", "4080"], capfd, 0)
    assert "grey levels" in ended(["import", dark, "-o", tmp_path / "forced.zarr", "--force"], capfd, 0)
    assert voxels(tmp_path / "forced.zarr").max() == 16


def test_labels_as_raw_are_refused_without_the_option_labels(
    tiny_model: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = store(tmp_path / "ids.zarr", labels())
    made = tmp_path / "made.zarr"
    assert "if they are labels, import them with --labels" in ended(["import", source, "-o", made], capfd, 2)
    assert "look like labels" in ended(["run", source, "--model", tiny_model, "-o", tmp_path / "w"], capfd, 2)
    said = ended(["import", source, "-o", made, "--labels"], capfd, 0)
    assert f"next: neuroseg evaluate SEGMENTATION --truth {made}" in said
    assert np.array_equal(voxels(made), labels())
    assert "next: neuroseg run" in ended(["import", source, "-o", tmp_path / "r.zarr", "--range", "0", "99"], capfd, 0)


def test_an_image_as_labels_is_not_scored(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    image, truth = store(tmp_path / "image.zarr", raw()), store(tmp_path / "truth.zarr", labels())
    for arguments in (["evaluate", truth, "--truth", image], ["evaluate", image, "--truth", truth]):
        said = ended(arguments, capfd, 2)
        assert "look like an image, not like labels" in said
    assert "VOI" not in ended(["evaluate", truth, "--truth", truth], capfd, 0)


def test_an_image_imported_as_labels_is_copied_with_a_warning(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    image, wide = store(tmp_path / "image.zarr", raw()), store(tmp_path / "wide.zarr", raw().astype(np.int32))
    for number, arguments in enumerate((["import", image, "--labels"], ["import", wide])):
        made = tmp_path / f"{number}.zarr"
        assert "look like an image, not like labels" in ended([*arguments, "-o", made], capfd, 0)
        assert np.array_equal(voxels(made), raw())


def test_a_mask_imported_as_raw_is_copied_with_a_warning(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    mask = np.where(raw() > 120, 200, 0).astype(np.uint8)
    mask[:, :20] = 0
    source = store(tmp_path / "mask.zarr", np.repeat(np.repeat(mask, 4, 1), 4, 2))
    assert "if they are labels, import them with --labels" in ended(
        ["import", source, "-o", tmp_path / "made.zarr"], capfd, 0
    )
    assert set(np.unique(voxels(tmp_path / "made.zarr"))) == {0, 200}


def test_a_black_volume_is_refused_and_a_half_copied_one_gives_a_warning(
    tiny_model: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    black = store(tmp_path / "black.zarr", np.zeros((16, 40, 40), np.uint8), chunks=(8, 20, 20))
    assert "0 of 8 chunks stored" in ended(["import", black, "-o", tmp_path / "m.zarr"], capfd, 2)
    assert "0 of 8 chunks stored" in ended(["run", black, "--model", tiny_model, "-o", tmp_path / "w"], capfd, 2)
    zeros = store(tmp_path / "zeros.zarr", np.zeros((16, 40, 40), np.uint8), config={"write_empty_chunks": True})
    assert "every sampled voxel is 0" in ended(["import", zeros, "-o", tmp_path / "m.zarr"], capfd, 2)
    half = store(tmp_path / "half.zarr", raw(), chunks=(8, 20, 20))
    shutil.rmtree(tmp_path / "half.zarr" / "c" / "1")
    assert "4 of 8 chunks stored" in ended(["import", half, "-o", tmp_path / "m.zarr"], capfd, 0)


@pytest.mark.parametrize("flags", [["--invert"], ["--range", "255", "0"]])
def test_inverted_contrast(
    flags: list[str], tiny_model: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plain = make_volume(tmp_path / "plain.zarr", (16, 24, 24))
    bright = make_volume(tmp_path / "bright.zarr", (16, 24, 24))
    zarr.open_array(bright, mode="r+")[:] = 255 - zarr.open_array(plain, mode="r")[:]
    ended(["import", bright, "-o", tmp_path / "made.zarr", *flags], capfd, 0)
    assert np.array_equal(voxels(tmp_path / "made.zarr"), voxels(Path(plain)))
    for name, volume, more in (("a", plain, []), ("b", bright, flags)):
        ended(
            ["predict", volume, "-o", tmp_path / name, "--model", tiny_model, "--executor", "serial", *more], capfd, 0
        )
    one, other = (np.asarray(open_array(tmp_path / name / "affinities.zarr")[:]) for name in ("a", "b"))
    assert np.array_equal(one, other)
    again = ["predict", bright, "-o", tmp_path / "b", "--model", tiny_model, "--executor", "serial", "--range", "0"]
    assert "value_range" in ended([*again, "200"], capfd, 2)


def test_labels_are_not_inverted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = store(tmp_path / "ids.zarr", labels())
    assert "--invert is only for raw\nhint: omit --invert" in ended(
        ["import", source, "-o", tmp_path / "m.zarr", "--labels", "--invert"], capfd, 2
    )


@pytest.mark.parametrize("name", ["seg.h5", "seg.HDF5", "seg.tif", "seg.n5", "seg.neuroseg", "seg.zarr.zip"])
def test_a_name_of_another_format_is_refused(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = store(tmp_path / "ids.zarr", labels())
    message = ended(["import", source, "-o", tmp_path / name, "--labels"], capfd, 2)
    assert "expected a zarr\nhint: use -o seg.zarr" in message
    assert not (tmp_path / name).exists()

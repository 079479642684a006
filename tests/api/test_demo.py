"""The volume of the demo: its content, and the folders it must not change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import neuroseg
from neuroseg.errors import InputError
from neuroseg.views.synthetic import synthetic_volume
from neuroseg.volumes.volume import open_volume

SHAPE = (48, 64, 80)


@pytest.fixture
def demo(tmp_path: Path) -> neuroseg.DemoVolume:
    return neuroseg.demo_volume(tmp_path / "some" / "demo", shape=SHAPE)


def test_a_demo_volume_has_raw_values_and_true_labels(demo: neuroseg.DemoVolume) -> None:
    volume, truth = (open_volume(str(path)) for path in demo)
    expected = synthetic_volume(SHAPE, 7)
    np.testing.assert_array_equal(volume.read(volume.roi), expected.raw)
    np.testing.assert_array_equal(truth.read(truth.roi), expected.labels)
    assert (volume.dtype, truth.dtype) == (np.uint8, np.uint64)
    assert volume.voxel_size_nm == truth.voxel_size_nm == (10, 10, 10)
    assert len(np.unique(expected.labels)) > 5


def test_an_earlier_demo_is_replaced_with_its_results(demo: neuroseg.DemoVolume, tmp_path: Path) -> None:
    folder = demo.volume.parent
    (folder / "volume.neuroseg").mkdir()
    (folder / "note.txt").touch()
    (tmp_path / "elsewhere.txt").touch()
    (folder / "link").symlink_to(tmp_path)
    (tmp_path / "link").symlink_to(folder)
    again = neuroseg.demo_volume(tmp_path / "link", shape=48)
    assert sorted(path.name for path in folder.iterdir()) == [".neuroseg-demo", "truth.zarr", "volume.zarr"]
    assert open_volume(str(again.volume)).shape == (48, 48, 48)
    assert (tmp_path / "elsewhere.txt").exists()


def test_a_folder_of_other_files_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(InputError, match="not empty and not an earlier demo"):
        neuroseg.demo_volume(tmp_path, shape=SHAPE)
    with pytest.raises(InputError, match=r"mine\.txt is a file, not a folder"):
        neuroseg.demo_volume(tmp_path / "mine.txt", shape=SHAPE)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (47, "fewer than 48 voxels"),
        ((48, 47, 96), "fewer than 48 voxels"),
        ((48, 96), r"expected three values \(z, y, x\)"),
    ],
)
def test_a_demo_volume_refuses_small_shapes(shape: int | tuple[int, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        neuroseg.demo_volume(tmp_path / "demo", shape=shape)
    assert not (tmp_path / "demo").exists()

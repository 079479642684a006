"""Masks of any resolution, applied to the voxels of a volume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from funlib.geometry import Roi

from neuroseg.errors import InputError
from neuroseg.geometry import whole
from neuroseg.volumes.mask import open_mask


def stored(path: Path, values: np.ndarray, **attributes: object) -> str:
    array = zarr.create_array(str(path), shape=values.shape, dtype=values.dtype, attributes=attributes)
    array[:] = values
    return str(path)


def test_a_coarse_mask_is_looked_up_at_the_voxels_centres(tmp_path: Path) -> None:
    # The volume: voxels of 10 nm from x = 20 nm on. The mask: two voxels of 40 nm from x = 0 on, the second inside.
    mask = stored(tmp_path / "M.zarr", np.array([[[0, 1]]], np.uint8), voxel_size=[10, 10, 40], offset=[0, 0, 0])
    source = open_mask(mask, (1, 1, 8), (10.0, 10.0, 10.0), (0.0, 0.0, 20.0))
    # Centres at 25, 35 | 45, 55, 65, 75 | 85, 95: before, in and behind the mask's second voxel.
    expected = [False, False, True, True, True, True, False, False]
    assert source.open()(whole((1, 1, 8))).tolist() == [[expected]]
    assert source.open()(Roi((0, 0, 1), (1, 1, 3))).tolist() == [[expected[1:4]]]
    one, pairs = np.array([[0, 1]]), np.array([[0, 2], [2, 4], [4, 6], [6, 8]])
    assert source.touching()(one, one, pairs).tolist() == [[[False, True, True, False]]]


def test_a_mask_without_a_voxel_size_has_the_volumes_voxels(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 2, (3, 4, 5)).astype(bool)
    source = open_mask(stored(tmp_path / "M.zarr", values), (3, 4, 5), (30.0, 5.0, 5.0), (7.0, 0.0, 0.0))
    assert np.array_equal(source.open()(whole((3, 4, 5))), values)
    with pytest.raises(
        InputError, match=r"no voxel size, and its shape is .*, expected the volume's shape \(3, 4, 6\)"
    ):
        open_mask(str(tmp_path / "M.zarr"), (3, 4, 6), (30.0, 5.0, 5.0), (0.0, 0.0, 0.0))


def test_a_mask_of_fractions_is_refused(tmp_path: Path) -> None:
    path = stored(tmp_path / "M.zarr", np.zeros((2, 2, 2), np.float32), voxel_size=[1, 1, 1])
    with pytest.raises(InputError, match="expected booleans or integers"):
        open_mask(path, (2, 2, 2), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))


def test_an_assumed_offset_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = np.ones((3, 4, 5), np.uint8)
    open_mask(stored(tmp_path / "M.zarr", values), (3, 4, 5), (30.0, 5.0, 5.0), (0.0, 0.0, 0.0))
    assert "M.zarr has no offset. It is assumed to begin at the same position as the volume" in caplog.text
    caplog.clear()
    placed = {"voxel_size": [30, 5, 5], "offset": [0, 0, 0]}
    open_mask(stored(tmp_path / "P.zarr", values, **placed), (3, 4, 5), (30.0, 5.0, 5.0), (0.0, 0.0, 0.0))
    assert not caplog.text

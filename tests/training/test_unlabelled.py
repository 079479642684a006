"""Volumes without labels: crops of what no memory could hold."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import zarr

from neuroseg.training.settings import UnlabelledSettings
from neuroseg.training.unlabelled import Crops, open_unlabelled

CROP = (18, 40, 40)


def test_a_volume_of_many_terabytes_is_read_crop_by_crop(tmp_path: Path) -> None:
    shape = (1 << 14, 1 << 16, 1 << 16)
    attributes = {"voxel_size": [30, 6, 6]}
    chunks = (16, 64, 64)
    array = zarr.create_array(str(tmp_path / "v.zarr"), shape=shape, chunks=chunks, dtype="u1", attributes=attributes)
    array[:16, :64, :64] = 255
    assert np.prod(shape) > 70e12
    settings = UnlabelledSettings(raw=str(tmp_path / "v.zarr"))
    crops = Crops(open_unlabelled([settings], ["."], CROP), CROP, "in_plane")
    rng = np.random.default_rng(0)
    crops.draw(rng)
    tracemalloc.start()
    try:
        for _ in range(300):
            assert crops.draw(rng).shape == CROP
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 40 * 4 * np.prod(CROP), "nothing but the chunks of a crop is ever in memory"

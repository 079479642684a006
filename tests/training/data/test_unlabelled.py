"""Crops of volumes without labels that do not fit into memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import zarr
from funlib.geometry import Roi

from neuroseg.training.data.unlabelled import Crops, Region, open_unlabelled
from neuroseg.training.data_settings import UnlabelledSettings

CROP = (18, 40, 40)


def test_a_huge_volume_is_read_crop_by_crop(tmp_path: Path) -> None:
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
    # The lowest of three peaks: threads of other tests may also allocate memory.
    peaks = []
    for _ in range(3):
        tracemalloc.start()
        try:
            for _ in range(100):
                assert crops.draw(rng).shape == CROP
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert min(peaks) < 40 * 4 * np.prod(CROP), "nothing but the chunks of a crop is ever in memory"


def test_crops_are_drawn_uniformly_from_all_sections(tmp_path: Path) -> None:
    """Each section of a region has its own value, from 10 or from 100 on. Raw outside the regions is 0."""
    regions = []
    for name, roi, first in (("small", Roi((2, 3, 5), (6, 9, 8)), 10), ("large", Roi((4, 1, 2), (30, 20, 25)), 100)):
        raw = np.zeros((40, 30, 30), np.uint8)
        raw[roi.to_slices()] = first + np.arange(roi.shape[0], dtype=np.uint8)[:, None, None]
        path = str(tmp_path / f"{name}.zarr")
        zarr.create_array(path, data=raw, attributes={"voxel_size": [30, 6, 6]})
        regions.append(Region(path, roi))
    crops, rng = Crops(regions, (4, 8, 8), "in_plane"), np.random.default_rng(1)
    drawn = [np.round(crops.draw(rng) * 255) for _ in range(300)]
    assert {int(value) for crop in drawn for value in np.unique(crop)} == {*range(10, 16), *range(100, 130)}
    assert 125 <= sum(crop.max() < 100 for crop in drawn) <= 175, "however small it is"

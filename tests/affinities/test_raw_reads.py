"""Prediction decodes little more raw than it needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from funlib.geometry import Coordinate, Roi

from neuroseg.affinities.inference import TileSettings
from neuroseg.affinities.tiles import box_of_windows, read_reflected, rounded_to_tiles
from neuroseg.geometry import whole
from neuroseg.volumes.raw import RawSource
from neuroseg.volumes.volume import Volume

CHUNK = 64
OFFSETS = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
LIGHT = TileSettings((64, 64, 64), (32, 32, 32), 1, 255.0, OFFSETS)
SUPERHUMAN = TileSettings((10, 80, 80), (4, 40, 40), 1, 255.0, OFFSETS)
BLENDED = TileSettings((10, 80, 80), (4, 40, 40), 1, 255.0, OFFSETS, "gaussian")
MALA = TileSettings((25, 56, 56), (14, 106, 106), 1, 255.0, OFFSETS)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("settings", [LIGHT, SUPERHUMAN, BLENDED, MALA], ids=["light", "superhuman", "blended", "mala"])
def test_a_row_of_blocks_decodes_at_most_1_6_times_what_it_needs(
    settings: TileSettings, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = rounded_to_tiles((256, 256, 256), settings.output)
    shape = [5 * width for width in block]
    path = str(tmp_path / "raw.zarr")
    attributes = {"voxel_size": [10, 10, 10]}
    zarr.create_array(path, shape=shape, chunks=(CHUNK,) * 3, dtype="u1", attributes=attributes)
    decoded, needed = [0], 0
    stored = Volume.read

    def counted(volume: Volume, roi: Roi) -> np.ndarray:
        chunks = (-(-end // CHUNK) - begin // CHUNK for begin, end in zip(roi.begin, roi.end, strict=True))
        decoded[0] += CHUNK**3 * int(np.prod(list(chunks)))
        return stored(volume, roi)

    monkeypatch.setattr(Volume, "read", counted)
    around = box_of_windows(settings.tiles(whole(block)), settings.context)
    read = RawSource(path, 0, (10, 10, 10), (0, 0, 0), None, "").open(around.shape, threads)
    for x in range(1, 4):  # no face of the volume is near
        roi = Roi(Coordinate((2, 2, x)) * Coordinate(block), block)
        box = box_of_windows(settings.tiles(roi), settings.context)
        assert read_reflected(read, box, shape).shape == box.shape
        needed += box.size
    assert 0.5 < decoded[0] / needed <= 1.6

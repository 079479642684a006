"""Volumes of the experiment are degraded, and complete or absent."""

from __future__ import annotations

import importlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

EXPERIMENTS = Path(__file__).parents[2] / "scripts" / "experiments"
pytestmark = pytest.mark.long


def test_a_volume_is_degraded_once_and_reproducibly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXPERIMENTS)
    experiment = importlib.import_module("adapt_degraded")
    raw = np.zeros((8, 30, 30), np.uint8)
    raw[:, :, 15:] = 200
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file["raw"] = raw
    (tmp_path / "worse.zarr.partial" / "left").mkdir(parents=True)  # left by a killed run
    experiment.write_degraded(tmp_path / "raw.h5", tmp_path / "worse.zarr", 5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw.h5", "worse.zarr"]
    found = zarr.open_array(str(tmp_path / "worse.zarr"), mode="r")[:]
    assert np.array_equal(found, experiment.degraded(raw, 5))
    experiment.write_degraded(tmp_path / "absent.h5", tmp_path / "worse.zarr", 6)
    assert np.array_equal(zarr.open_array(str(tmp_path / "worse.zarr"), mode="r")[:], found), "made once"
    dark, bright = found[:, :, :12].mean(), found[:, :, 18:].mean()
    assert bright - dark == pytest.approx(100, abs=2), "half the contrast"
    assert (dark + bright) / 2 == pytest.approx(108, abs=2)
    assert found[:, :, :12].std() == pytest.approx(14, abs=2)

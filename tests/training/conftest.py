"""A small training configuration on synthetic tissue."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
import zarr

from neuroseg.views.synthetic import synthetic_volume

SHAPE = (32, 40, 40)


@pytest.fixture(scope="session")
def configuration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration of a few steps on a small synthetic volume."""
    folder = tmp_path_factory.mktemp("training")
    made = synthetic_volume(SHAPE, 1)
    for name, array in (("raw", made.raw), ("labels", made.labels)):
        stored = zarr.create_array(
            str(folder / f"{name}.zarr"), shape=SHAPE, dtype=array.dtype, attributes={"voxel_size": [10, 10, 10]}
        )
        stored[:] = array
    volume = {"raw": "raw.zarr", "labels": "labels.zarr"}
    content = {
        "name": "small",
        "loader_workers": 0,
        "data": {
            "folders": ["nowhere", str(folder)],
            "training": [{**volume, "region": "0:24,:,:"}],
            "validation": {**volume, "region": "24:32,:,:"},
        },
        "network": {"parameters": {"widths": [4, 8]}},
        "targets": {"auxiliary_offsets": [[0, 0, -3]], "descriptor_sigma_nm": 40},
        "optimiser": {"steps": 24, "batch": 1, "patch_voxels": [24, 24, 24], "margin_voxels": [2, 2, 2],
                      "warm_up_steps": 2, "learning_rate": 0.01},
        "validation": {"every_steps": 12, "scorings": ["mean"], "statistics_samples": 4, "tile_voxels": [16, 16, 16],
                       "context_voxels": [8, 8, 8]},
    }  # fmt: skip
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(content))
    return path

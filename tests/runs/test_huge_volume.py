"""A region of a volume of 10^15 voxels is segmented like a small volume, and the volume is described like any other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from neuroseg.cli.main import exit_code
from neuroseg.runs import pipeline
from neuroseg.runs.options import Options
from neuroseg.storage.arrays import open_array

EDGE, SIZE = 10**5, 32
# Multiples of the blocks and of the period of the heights, so that both volumes have the same fragments.
BEGIN, SMALL_EDGE, SMALL_BEGIN = 67_200, 96, 48
ABOUT = {"offsets": [[-1, 0, 0], [0, -1, 0], [0, 0, -1]], "voxel_size": [10, 10, 10], "offset": [0, 0, 0]}


def segmented(path: Path, edge: int, begin: int, values: np.ndarray) -> np.ndarray:
    """Return the segmentation of `values` at a place of a cubic volume with this edge."""
    array = zarr.create_array(
        str(path), shape=(3, edge, edge, edge), dtype="u1", chunks=(3, 32, 32, 32), attributes=ABOUT
    )
    part = (slice(begin, begin + SIZE),) * 3
    array[:, *part] = values
    roi = ",".join([f"{begin}:{begin + SIZE}"] * 3)
    place = str(path.with_suffix(".neuroseg"))
    wanted = Options(affinities=str(path), output=place, blocks="16", roi=roi, executor="serial", force=True)
    workspace, _ = pipeline.segment(wanted)
    return np.asarray(open_array(workspace.segmentation / "0")[part])


def test_a_region_of_a_huge_volume_is_segmented_like_a_small_volume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    coarse = rng.random((3, 8, 8, 8)).repeat(4, 1).repeat(4, 2).repeat(4, 3)
    values = (255 * np.clip(coarse + rng.random((3, SIZE, SIZE, SIZE)) / 4, 0, 1)).astype(np.uint8)
    small = segmented(tmp_path / "small.zarr", SMALL_EDGE, SMALL_BEGIN, values)
    assert small.max() > 2
    assert np.array_equal(segmented(tmp_path / "huge.zarr", EDGE, BEGIN, values), small)
    capsys.readouterr()
    workspace = str(tmp_path / "huge.neuroseg")
    assert exit_code(["status", workspace, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["state"] == "done"
    assert {row["stage"]: row["blocks"] for row in found["stages"]}["edges"] == 8
    assert exit_code(["info", str(tmp_path / "huge.zarr"), "--axes", "czyx", "--channel", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["blocks"] == 59_776_471

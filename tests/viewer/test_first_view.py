"""Where a viewer begins: at the fragments of a run, which may fill a small part of a volume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from scipy import ndimage

from neuroseg.runs import pipeline
from neuroseg.runs.options import Options
from neuroseg.viewer.session import Session

SHAPE, SIZE_NM, OFFSET_NM = (40, 160, 200), [20, 10, 10], [100, 0, 50]
OFFSETS = [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]


def workspace_of(folder: Path, *boxes: tuple[int, int, int]) -> str:
    """A workspace with a mask: cubes of 30 voxels that begin at some places."""
    folder.mkdir()
    smooth = ndimage.gaussian_filter(np.random.default_rng(7).random((3, *SHAPE)), (0, 1, 2, 2))
    values = np.round(255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    inside = np.zeros(SHAPE, np.uint8)
    for z, y, x in boxes:
        inside[z : z + 30, y : y + 30, x : x + 30] = 1
    given = {"executor": "serial", "output": str(folder / "w")}
    for name, array, more in [("affinities", values, {"offsets": OFFSETS}), ("mask", inside, {})]:
        given[name] = str(folder / f"{name}.zarr")
        attributes = {"voxel_size": SIZE_NM, "offset": OFFSET_NM, **more}
        zarr.create_array(given[name], shape=array.shape, dtype="u1", attributes=attributes)[:] = array
    return str(pipeline.segment(Options.model_validate(given))[0].path)


def first_voxel(address: str) -> tuple[list[float], float]:
    """Return the voxel (z, y, x) at which the views begin, and how many voxels their longer side shows."""
    state = Session(address, None).beginning()["state"]
    place = [at - o / s for at, o, s in zip(state["position"][::-1], OFFSET_NM, SIZE_NM, strict=True)]
    return place, state["crossSectionScale"]


def test_it_begins_at_the_fragments(tmp_path: Path) -> None:
    place, scale = first_voxel(workspace_of(tmp_path / "one", (5, 100, 20)))
    assert all(begin <= at <= begin + 30 for at, begin in zip(place, (5, 100, 20), strict=True))
    boxes = [(5, 10, 20), (5, 120, 160)]
    place, farther = first_voxel(workspace_of(tmp_path / "two", *boxes))
    assert farther > scale
    inside = [all(begin <= at <= begin + 30 for at, begin in zip(place, box, strict=True)) for box in boxes]
    assert any(inside), "the middle between the two boxes is empty"


@pytest.mark.parametrize("roi", [None, "0:20,0:40,0:50"])
def test_before_there_are_fragments_it_begins_in_the_middle_of_the_region(
    tmp_path: Path, tiny_model: str, roi: str | None
) -> None:
    volume = str(tmp_path / "V.zarr")
    attributes = {"voxel_size": SIZE_NM, "offset": OFFSET_NM}
    array = zarr.create_array(volume, shape=SHAPE, dtype="u1", attributes=attributes)
    array[:] = np.random.default_rng(7).integers(0, 255, SHAPE)
    given = {"volume": volume, "model": tiny_model, "executor": "serial", "force": True, "roi": roi}
    workspace, _ = pipeline.predict(Options.model_validate(given))
    assert first_voxel(str(workspace.path))[0] == pytest.approx([10, 20, 25] if roi else [20, 80, 100])

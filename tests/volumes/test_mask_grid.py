"""Which cells of a grid over a volume have a voxel inside a mask of another resolution."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from funlib.geometry import Roi
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroseg.blocks import Lattice
from neuroseg.geometry import slices, whole
from neuroseg.volumes import mask_grid
from neuroseg.volumes.mask_grid import Scaled, cells_inside, voxels_inside
from neuroseg.volumes.volume import Volume


def volume_of(values: np.ndarray) -> Volume:
    array = zarr.create_array({}, shape=values.shape, dtype=values.dtype, chunks=(2, 3, 4))
    array[:] = values
    return Volume("M.zarr", array, None, (0.0, 0.0, 0.0))


def test_a_cell_is_inside_if_one_of_its_voxels_is() -> None:
    # Voxels of the volume, two for each voxel of the mask:  0 0 | 0 0 | 1 1 | 0 0    cells of three: 000 011 00
    mask = volume_of(np.array([[[0, 0, 1, 0]]], np.uint8))
    one = np.array([[0, 1]])
    found = cells_inside(mask, [one, one, np.array([[0, 3], [3, 6], [6, 8]])], Scaled((1.0, 1.0, 0.5), (0.0, 0.0, 0.0)))
    assert found.tolist() == [[[False, True, False]]]


def test_cells_outside_the_extent_of_the_mask_are_outside() -> None:
    mask = volume_of(np.ones((1, 1, 2), np.uint8))
    one = np.array([[0, 1]])
    faces = [one, one, np.array([[0, 2], [2, 4], [4, 6], [6, 8]])]
    shifted = Scaled((1.0, 1.0, 1.0), (0.0, 0.0, 3.0))  # the mask covers x = 3 and 4
    assert cells_inside(mask, faces, shifted).tolist() == [[[False, True, True, False]]]
    assert not cells_inside(mask, faces, Scaled((1.0, 1.0, 1.0), (0.0, 5.0, 0.0))).any()


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_cells_and_voxels_agree(data: st.DataObject) -> None:
    draw = data.draw
    shape, block = (draw(st.tuples(*[st.integers(1, 12)] * 3)) for _ in range(2))
    begin = [draw(st.integers(0, size - 1)) for size in shape]
    roi = Roi(begin, [draw(st.integers(1, size - b)) for size, b in zip(shape, begin, strict=True)])
    ratio = draw(st.tuples(*[st.sampled_from([0.25, 1 / 3, 0.4, 1.0, 1.7, 3.0])] * 3))
    shift = draw(st.tuples(*[st.sampled_from([-2.5, -1.0, 0.0, 0.3, 2.0])] * 3))
    inside = np.random.default_rng(draw(st.integers(0, 99))).random(draw(st.tuples(*[st.integers(1, 9)] * 3)))
    mask, scaled = volume_of(inside > draw(st.sampled_from([0.5, 0.9, 0.99]))), Scaled(ratio, shift)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mask_grid, "_MOST_VOXELS", draw(st.sampled_from([1, 8, 2**24])))
        lattice = Lattice(shape, block, roi, lambda *faces: cells_inside(mask, faces, scaled))
        found = lattice.indices()
    voxels = voxels_inside(mask, whole(shape), scaled)
    expected = [b.index for b in Lattice(shape, block, roi).blocks() if voxels[slices(b.write_roi)].any()]
    assert found == expected


def test_each_part_of_the_mask_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mask_grid, "_MOST_VOXELS", 64)
    read: list[Roi] = []
    complete = Volume.read

    def counted(volume: Volume, roi: Roi) -> np.ndarray:
        read.append(roi)
        return complete(volume, roi)

    monkeypatch.setattr(Volume, "read", counted)
    mask = volume_of(np.ones((8, 8, 8), np.uint8))
    faces = np.array([[n, n + 4] for n in range(0, 32, 4)])  # one cell for each voxel of the mask
    assert cells_inside(mask, [faces] * 3, Scaled((0.25,) * 3, (0.0,) * 3)).all()
    assert sum(roi.size for roi in read) == 8**3
    assert max(roi.size for roi in read) <= 64

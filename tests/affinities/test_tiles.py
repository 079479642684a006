"""Tiles lie on a lattice from the origin, and windows are reflected at the faces of the volume."""

import numpy as np
import pytest
from funlib.geometry import Roi

from neuroseg.affinities.tiles import (
    blending_weights,
    box_of_windows,
    read_reflected,
    reflected_indices,
    rounded_to_tiles,
    tiles_covering,
    windows_covering,
)
from neuroseg.geometry import slices, whole


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_reflection_equals_that_of_numpy(size: int) -> None:
    row = np.arange(size)
    expected = np.pad(row, 9, mode="reflect")
    assert np.array_equal(row[reflected_indices(-9, size + 9, size)], expected)


def test_tiles_begin_at_multiples_of_their_shape() -> None:
    tiles = tiles_covering(Roi((5, 0, 16), (10, 4, 1)), (4, 4, 16))
    assert [tuple(tile.begin) for tile in tiles] == [(4, 0, 16), (8, 0, 16), (12, 0, 16)]


def test_blocks_are_rounded_up_to_whole_tiles() -> None:
    assert rounded_to_tiles((100, 128, 80), (64, 64, 64)) == (128, 128, 128)


def test_a_window_past_a_face_reflects_and_reads_only_the_volume() -> None:
    volume = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    asked = []

    def read(roi: Roi) -> np.ndarray:
        asked.append(roi)
        return volume[slices(roi)]

    window = read_reflected(read, Roi((-2, 1, 3), (5, 3, 6)), volume.shape)
    expected = np.pad(volume, [(2, 0), (0, 0), (0, 3)], mode="reflect")[0:5, 1:4, 3:9]
    assert np.array_equal(window, expected)
    assert asked == [Roi((0, 1, 2), (3, 3, 4))]


def test_a_box_beyond_the_volume_is_its_mirror_image() -> None:
    volume = np.arange(8).reshape(8, 1, 1)
    found = read_reflected(lambda roi: volume[slices(roi)], Roi((-5, 0, 0), (3, 1, 1)), volume.shape)
    assert found.ravel().tolist() == [5, 4, 3]


def test_the_box_of_windows_contains_all_of_them() -> None:
    tiles = tiles_covering(Roi((5, 0, 16), (10, 4, 1)), (4, 4, 16))
    assert box_of_windows(tiles, (1, 2, 3)) == Roi((3, -2, 13), (14, 8, 22))


@pytest.mark.parametrize(("tile", "context"), [((4, 6, 5), (2, 3, 5)), ((10, 8, 8), (4, 4, 4)), ((1, 3, 2), (0, 4, 7))])
def test_blending_weights_sum_to_one_at_every_voxel(tile: tuple[int, ...], context: tuple[int, ...]) -> None:
    weights = blending_weights(tile, context)  # type: ignore[arg-type]
    assert weights.dtype == np.float32
    shape = (9, 20, 17)
    total = np.zeros(shape, np.float32)
    for core in windows_covering(whole(shape), tile, context):  # type: ignore[arg-type]
        window = core.grow(context, context)
        part = window.intersect(whole(shape))
        total[slices(part)] += weights[slices(part, window.begin)]
    np.testing.assert_allclose(total, 1, atol=3e-7)
    centre = tuple(size // 2 for size in weights.shape)
    assert weights[centre] >= weights.max() * 0.99


def test_weights_of_windows_that_do_not_overlap_are_one() -> None:
    assert (blending_weights((4, 6, 5), (0, 0, 0)) == 1).all()

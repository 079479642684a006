"""The picture of a segment: seen along its shortest axis, transparent beside it, darker where it is farther."""

from __future__ import annotations

import numpy as np

from neuroseg.views.projection import depth_picture


def test_the_view_is_along_the_axis_that_is_shortest_in_nm() -> None:
    box = np.ones((4, 8, 6), bool)
    assert depth_picture(box, (1, 0, 0), (10, 10, 10))[1] == 0
    picture, axis = depth_picture(box, (1, 0, 0), (40, 10, 10))
    assert axis == 2, "160 x 80 x 60 nm"
    assert picture.shape == (4, 8, 4)


def test_near_surfaces_are_bright_and_the_rest_is_transparent() -> None:
    inside = np.zeros((5, 20, 20), bool)
    inside[0, :, 0:6], inside[4, :, 12:20] = True, True
    picture, _ = depth_picture(inside, (0.5, 1, 0), (10, 10, 10))
    assert picture[..., 3].any(axis=0).tolist() == [True] * 6 + [False] * 6 + [True] * 8
    near, far = picture[10, 2], picture[10, 17]
    assert near[:3].tolist() == [0.5, 1, 0]
    assert 0 < far[1] < 0.5 * near[1]


def test_a_segment_without_voxels_is_an_empty_picture() -> None:
    picture, _ = depth_picture(np.zeros((2, 3, 4), bool), (1, 1, 1), (10, 10, 10))
    assert picture.shape == (3, 4, 4)
    assert not picture.any()


def test_a_single_voxel_is_drawn() -> None:
    picture, _ = depth_picture(np.ones((1, 1, 1), bool), (1, 1, 1), (10, 10, 10))
    assert picture.tolist() == [[[1, 1, 1, 1]]]

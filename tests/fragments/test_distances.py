"""Signed squared distances equal those of a library and do not depend on the crop."""

from __future__ import annotations

import numpy as np
import pytest
from funlib.geometry import Coordinate, Roi
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from neuroseg.fragments.distances import UNITS_PER_SQUARED_VOXEL, signed_squares
from neuroseg.fragments.settings import BasinSettings
from neuroseg.geometry import slices, whole

ISOTROPIC = (10.0, 10.0, 10.0)
TWICE = (20.0, 10.0, 10.0)
FLAT_Z = (5.0, 10.0, 10.0)
WIDE_Y = (20.0, 20.0, 10.0)


def squared_distances(mask: NDArray[np.bool_], made: BasinSettings) -> NDArray[np.int16]:
    """The squared distance to the nearest true voxel: the negative side."""
    return np.maximum(-signed_squares(mask, made, whole(mask.shape)), 0)


def library_distances(mask: NDArray[np.bool_], made: BasinSettings) -> NDArray[np.float64]:
    """Distance to the nearest true voxel in xy voxels, clipped at the reach."""
    if made.per_section:
        volumes = [distance_transform_edt(~s, sampling=made.voxel_size[1:]) if s.any() else s + np.inf for s in mask]
        return np.minimum(np.stack(volumes), made.reach)
    if not mask.any():
        return np.full(mask.shape, made.reach)
    return np.minimum(distance_transform_edt(~mask, sampling=made.voxel_size), made.reach)


def test_a_row_counts_steps_to_the_nearest_true_voxel() -> None:
    mask = np.array([0, 0, 0, 1, 0, 1, 0], bool).reshape(1, 1, 7)
    found = squared_distances(mask, BasinSettings(ISOTROPIC, reach=3)) / UNITS_PER_SQUARED_VOXEL
    assert found.ravel().tolist() == [9, 4, 1, 0, 1, 0, 1]


def test_a_step_in_z_counts_twice_where_the_voxel_is_twice_as_deep() -> None:
    mask = np.zeros((3, 2, 2), bool)
    mask[0, 0, 0] = True
    found = squared_distances(mask, BasinSettings(TWICE, reach=10)) / UNITS_PER_SQUARED_VOXEL
    # z step: 4; y or x step: 1
    assert found.tolist() == [[[0, 1], [1, 2]], [[4, 5], [5, 6]], [[16, 17], [17, 18]]]


def test_distances_are_clipped_at_the_reach() -> None:
    mask = np.zeros((1, 1, 9), bool)
    mask[0, 0, 0] = True
    found = squared_distances(mask, BasinSettings(ISOTROPIC, reach=2.5)) / UNITS_PER_SQUARED_VOXEL
    assert found.ravel().tolist() == [0, 1, 4, 6.25, 6.25, 6.25, 6.25, 6.25, 6.25]


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 5), (4, 5, 6)])
def test_without_a_true_voxel_every_distance_is_the_reach(shape: tuple[int, int, int]) -> None:
    made = BasinSettings(ISOTROPIC, reach=4)
    assert (squared_distances(np.zeros(shape, bool), made) == 16 * UNITS_PER_SQUARED_VOXEL).all()
    assert (squared_distances(np.ones(shape, bool), made) == 0).all()


def test_per_section_other_sections_are_ignored() -> None:
    mask = np.zeros((2, 1, 4), bool)
    mask[0, 0, 0] = True
    found = squared_distances(mask, BasinSettings(TWICE, reach=3, per_section=True)) / UNITS_PER_SQUARED_VOXEL
    assert found.tolist() == [[[0, 1, 4, 9]], [[9, 9, 9, 9]]]


shapes = st.tuples(*[st.integers(1, 13)] * 3)


@settings(max_examples=60)
@given(
    shape=shapes,
    seed=st.integers(0, 2**32 - 1),
    density=st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0]),
    voxel_size=st.sampled_from([ISOTROPIC, TWICE, FLAT_Z, WIDE_Y]),
    reach=st.sampled_from([1.0, 2.5, 4.0, 16.0]),
    per_section=st.booleans(),
)
def test_distances_equal_the_librarys_clipped_at_the_reach(
    shape: tuple[int, int, int],
    seed: int,
    density: float,
    voxel_size: tuple[float, float, float],
    reach: float,
    per_section: bool,
) -> None:
    mask = np.random.default_rng(seed).random(shape) < density
    made = BasinSettings(voxel_size, reach=reach, per_section=per_section)
    found = np.sqrt(squared_distances(mask, made) / UNITS_PER_SQUARED_VOXEL)
    np.testing.assert_allclose(found, library_distances(mask, made), rtol=1e-6)


@pytest.mark.parametrize("voxel_size", [(30, 6.3, 6.3), (50, 4, 4), (10, 7, 9)])
def test_the_error_for_other_voxel_sizes_is_below_a_sixteenth(
    voxel_size: tuple[float, float, float],
) -> None:
    mask = np.random.default_rng(0).random((9, 20, 20)) < 0.01
    made = BasinSettings(voxel_size, reach=16)
    found = squared_distances(mask, made) / UNITS_PER_SQUARED_VOXEL
    # A squared edge is rounded to 1/16; up to `reach` steps of it are squared: relative error 1/32 of the smallest.
    np.testing.assert_allclose(np.sqrt(found), library_distances(mask, made), rtol=0.02)


@settings(max_examples=30)
@given(
    shape=shapes,
    seed=st.integers(0, 2**32 - 1),
    density=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    voxel_size=st.sampled_from([ISOTROPIC, TWICE, WIDE_Y]),
    per_section=st.booleans(),
)
def test_the_positive_side_is_the_distance_to_false_voxels(
    shape: tuple[int, int, int],
    seed: int,
    density: float,
    voxel_size: tuple[float, float, float],
    per_section: bool,
) -> None:
    mask = np.random.default_rng(seed).random(shape) < density
    made = BasinSettings(voxel_size, reach=4, per_section=per_section)
    found = signed_squares(mask, made, whole(shape))
    assert ((found > 0) == mask).all()
    np.testing.assert_array_equal(np.maximum(found, 0), squared_distances(~mask, made))


def test_distances_longer_than_a_piece_of_the_loops_are_the_same_everywhere() -> None:
    # 3 x 40 x 60 voxels a section: the loops process 1024 voxels together.
    mask = np.random.default_rng(5).random((3, 40, 60)) < 0.02
    made = BasinSettings(ISOTROPIC, reach=16)
    found = np.sqrt(squared_distances(mask, made) / UNITS_PER_SQUARED_VOXEL)
    np.testing.assert_allclose(found, library_distances(mask, made), rtol=1e-6)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    voxel_size=st.sampled_from([ISOTROPIC, (30.0, 6.3, 6.3), (10.0, 7.0, 9.0)]),
    reach=st.sampled_from([2.0, 3.7, 6.0]),
)
def test_a_crop_with_the_reach_around_it_gives_the_volumes_bytes(
    seed: int, voxel_size: tuple[float, float, float], reach: float
) -> None:
    mask = np.random.default_rng(seed).random((17, 19, 23)) < 0.02
    made = BasinSettings(voxel_size, reach=reach)
    core = Roi((7, 7, 8), (2, 4, 4))
    crop = core.grow(Coordinate(made.distance_reach_voxels), Coordinate(made.distance_reach_voxels))
    cropped = np.ascontiguousarray(mask[slices(crop)])
    inner = signed_squares(cropped, made, core - crop.begin)
    np.testing.assert_array_equal(inner, signed_squares(mask, made, whole(mask.shape))[slices(core)])
    np.testing.assert_array_equal(inner, signed_squares(mask, made, core))

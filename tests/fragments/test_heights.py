"""The height of a voxel: signed distance, mean affinity, smoothing and ripple, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray
from scipy import ndimage

from neuroseg.fragments.heights import UNITS_PER_VOXEL, UNSEGMENTED, _smoothed, _with_borders, heights, ripple
from neuroseg.fragments.settings import BasinSettings
from neuroseg.geometry import slices, whole

ISOTROPIC = (10.0, 10.0, 10.0)
BARE = BasinSettings(ISOTROPIC, reach=4, sigma=0, ripple=0)


def row_heights(values: list[int], made: BasinSettings, origin: int = 0) -> NDArray[np.float64]:
    """Return heights in voxels of a row along x. The first voxel has no link to the left and uses that of the next."""
    affinities = np.broadcast_to(np.array(values, np.uint8), (3, 1, 1, len(values))).copy()
    links = np.full((3, len(values)), -1)  # the volume is one voxel thick along z and y
    links[2] = np.arange(len(values))
    if origin == 0:
        links[2, 0] = 1
    return heights(affinities, (0, 1, 2), links, (0, 0, origin), made).ravel() / UNITS_PER_VOXEL


def test_height_is_distance_inside_minus_distance_outside_plus_mean_affinity() -> None:
    # inside:            1    1    0   0    1    1
    # distance:          2    1   -1  -1    1    2
    # mean affinity:     1    1    0   0   .6    1
    found = row_heights([0, 255, 0, 0, 153, 255], BARE)
    np.testing.assert_allclose(found, [3, 2, -1, -1, 1.6, 3], atol=1 / UNITS_PER_VOXEL)


def test_half_is_outside_and_a_little_more_is_inside() -> None:
    # 127 < 127.5 < 128
    assert np.sign(row_heights([0, 255, 127, 255, 128, 255], BARE)).tolist() == [1, 1, -1, 1, 1, 1]


def test_axes_without_a_link_are_not_part_of_the_mean() -> None:
    affinities = np.zeros((3, 1, 1, 4), np.uint8)
    affinities[2] = 255
    links = np.full((3, 4), -1)
    links[2] = np.arange(4)
    found = heights(affinities, (0, 1, 2), links, (0, 0, 0), BARE).ravel() / UNITS_PER_VOXEL
    assert found.tolist() == [5, 5, 5, 5]
    links[:2] = 0
    found = heights(affinities, (0, 1, 2), links, (0, 0, 0), BARE).ravel() / UNITS_PER_VOXEL
    np.testing.assert_allclose(found, [-4 + 1 / 3] * 4, atol=1 / UNITS_PER_VOXEL)


def test_smoothing_keeps_a_constant_and_the_sum_of_a_bump() -> None:
    made = BasinSettings(ISOTROPIC, reach=4, sigma=1.0, ripple=0)
    assert row_heights([255] * 9, made).tolist() == [5.0] * 9
    bump = row_heights([0, 255, 255, 255, 0, 255, 255, 255, 255, 255, 255], made)
    plain = row_heights([0, 255, 255, 255, 0, 255, 255, 255, 255, 255, 255], BARE)
    assert plain[4] < bump[4] < plain[3]
    assert (bump[:4] <= plain[:4].max()).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_ripple_is_periodic_in_global_coordinates(axis: int) -> None:
    made = BasinSettings((20.0, 10.0, 10.0), period=24, ripple=0.5)
    period = 12 if axis == 0 else 24
    row = ripple(0, 100, axis, made) / UNITS_PER_VOXEL
    assert row[0] == row.max() == 0.5
    assert row[period // 2] == row.min() == 0
    assert sorted(np.flatnonzero(row == row.max())) == list(range(0, 100, period))
    np.testing.assert_array_equal(ripple(37, 50, axis, made) / UNITS_PER_VOXEL, row[37:87])


def test_heights_at_an_offset_are_those_of_the_volume() -> None:
    made = BasinSettings(ISOTROPIC, reach=2, sigma=0.5)
    values = np.random.default_rng(1).integers(0, 256, 60).tolist()
    far = sum((made.distance_reach_voxels[2], made.smoothing_reach_voxels[2]))
    np.testing.assert_array_equal(
        row_heights(values[20 - far : 30 + far], made, origin=20 - far)[far:-far], row_heights(values, made)[20:30]
    )


def test_heights_are_whole_multiples_that_fit_in_sixteen_bits() -> None:
    made = BasinSettings((30.0, 6.3, 6.3), reach=16, sigma=1.5)
    affinities = np.random.default_rng(2).integers(0, 256, (3, 8, 30, 30)).astype(np.uint8)
    found = heights(affinities, (0, 1, 2), np.tile(np.arange(30), (3, 1)), (0, 0, 0), made)
    assert found.dtype.kind == "i"
    assert np.abs(found).max() < 1 << 15


def test_halo_is_the_sum_of_distance_smoothing_pointer_and_shell() -> None:
    # ceil(16) - 1 + 1 + 2: the weight at the second step of the smoothing rounds to 0.
    assert BasinSettings(ISOTROPIC).halo_voxels == (18, 18, 18)
    # z: ceil(16 / 2) - 1 + 0 + 2
    assert BasinSettings((20.0, 10.0, 10.0)).halo_voxels == (9, 18, 18)
    assert BasinSettings((50.0, 4.0, 4.0), per_section=True).halo_voxels == (0, 18, 18)


def test_smoothing_weights_are_whole_and_sum_up() -> None:
    assert BasinSettings(ISOTROPIC, sigma=0).smoothing_weights(0) == [256]
    assert BasinSettings(ISOTROPIC, sigma=0.5).smoothing_weights(2) == [202, 27]
    wide = BasinSettings((30.0, 10.0, 10.0), sigma=2)
    assert wide.smoothing_weights(0)[0] + 2 * sum(wide.smoothing_weights(0)[1:]) == 256
    assert len(wide.smoothing_weights(2)) == wide.smoothing_reach_voxels[2] + 1 == 7


@pytest.mark.parametrize("shape", [(7, 9, 11), (5, 20, 30), (1, 1, 1), (2, 3, 40), (5, 1, 4)])
@pytest.mark.parametrize("voxel_size", [ISOTROPIC, (30.0, 10.0, 15.0)])
def test_smoothing_is_a_convolution_with_repeated_border_values(
    voxel_size: tuple[float, float, float], shape: tuple[int, int, int]
) -> None:
    made = BasinSettings(voxel_size, sigma=1.5)
    values = np.random.default_rng(3).integers(-17000, 17000, shape).astype(np.int16)
    expected = values.astype(np.float64)
    for axis in range(3):
        weights = np.array(made.smoothing_weights(axis))
        kernel = np.concatenate([weights[:0:-1], weights]) / 256
        expected = np.floor(ndimage.correlate1d(expected, kernel, axis, mode="nearest") + 0.5)
    reach = made.smoothing_reach_voxels
    bordered = _with_borders(values, whole(shape), whole(shape).grow(Coordinate(reach), Coordinate(reach)))
    inner = tuple(slice(far, far + size) for far, size in zip(reach, shape, strict=True))
    np.testing.assert_array_equal(_smoothed(bordered, made)[inner], expected)


def test_heights_of_a_region_are_those_of_the_whole_array() -> None:
    made = BasinSettings((20.0, 10.0, 10.0), reach=5, sigma=1.5, mask_boundary=0.3)
    affinities = np.random.default_rng(4).integers(0, 256, (3, 9, 14, 15)).astype(np.uint8)
    links = np.tile(np.arange(15), (3, 1))
    region = Roi((0, 3, 5), (4, 11, 6))
    found = heights(affinities, (0, 1, 2), links, (7, 8, 9), made, region)
    everywhere = heights(affinities, (0, 1, 2), links, (7, 8, 9), made)
    np.testing.assert_array_equal(found, everywhere[slices(region)])
    assert (found == UNSEGMENTED).any()
    assert (found > UNSEGMENTED).any()


def test_heights_that_do_not_fit_in_sixteen_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="reach is 31 voxels, expected at most 30"):
        BasinSettings(ISOTROPIC, reach=31)
    with pytest.raises(ValueError, match=r"0\.01 of the edge in xy"):
        BasinSettings((0.1, 10.0, 10.0))

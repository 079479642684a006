"""Fragments of hand-drawn volumes: every voxel is named by the root of its path."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.fragments.basins import stored_links
from neuroseg.fragments.settings import BasinSettings, wants_sections

Made = Callable[..., NDArray[np.uint64]]

ISOTROPIC = (10.0, 10.0, 10.0)
BARE = BasinSettings(ISOTROPIC, reach=8, sigma=0, ripple=0)


def painted(picture: NDArray[np.bool_] | list) -> NDArray[np.uint8]:  # type: ignore[type-arg]
    """Return affinities that are 255 in every channel at true voxels, and 0 elsewhere."""
    values = np.asarray(picture, np.uint8) * np.uint8(255)
    return np.ascontiguousarray(np.broadcast_to(values, (3, *values.shape)))


def test_two_blobs_and_a_wall_make_two_fragments_named_by_their_roots(fragments_of: Made) -> None:
    picture = np.ones((1, 3, 7), bool)
    picture[0, :, 3] = False
    # Heights 4 3 2 -1 2 3 4 along x (row 0); along y they are equal, so each path ends in row 0:
    #     root 0 -> name 1, root 6 -> name 7; the wall goes to its equally steep neighbour with the smaller index.
    expected = [[[1, 1, 1, 1, 7, 7, 7]] * 3]
    assert fragments_of(painted(picture), None, BARE).tolist() == expected
    assert fragments_of(painted(picture), (1, 2, 2), BARE).tolist() == expected


def test_names_are_indices_in_the_whole_volume_when_the_roi_lies_inside_it(fragments_of: Made) -> None:
    picture = np.ones((3, 6, 9), bool)
    picture[:, :, 5] = False
    roi = Roi((1, 2, 2), (1, 3, 7))
    # (1 * 6 + 2) * 9 + 2 + 1 and the same with x = 8
    expected = np.zeros((3, 6, 9), np.uint64)
    expected[1, 2:5, 2:9] = [75, 75, 75, 75, 81, 81, 81]
    for block_shape in (None, (2, 2, 4), (1, 1, 1)):
        np.testing.assert_array_equal(fragments_of(painted(picture), block_shape, BARE, roi=roi), expected)


def test_an_ascent_goes_to_the_steepest_neighbour_per_length(fragments_of: Made) -> None:
    # A reach of one voxel without walls: heights are the mean affinities alone. Indices: (z * 4 + y) * 4 + x.
    affinities = np.full((3, 2, 4, 4), 200, np.uint8)
    roi = Roi((1, 1, 1), (1, 3, 3))
    settings = BasinSettings(ISOTROPIC, reach=1, sigma=0, ripple=0)
    # From the centre (1, 2, 2): a rise of 20 diagonally (14.1 per voxel) against one of 15 along y.
    affinities[:, 1, 1, 3], affinities[:, 1, 3, 2] = 220, 215
    assert fragments_of(affinities, None, settings, roi=roi)[1, 2, 2] == (4 + 3) * 4 + 2 + 1
    affinities[:, 1, 1, 3] = 222  # 15.6 per voxel
    assert fragments_of(affinities, None, settings, roi=roi)[1, 2, 2] == (4 + 1) * 4 + 3 + 1


@pytest.mark.parametrize(("depth_nm", "root"), [(10.0, (1, 1, 1)), (5.0, (2, 1, 3))])
def test_steepness_depends_on_the_voxel_size_in_z(
    fragments_of: Made, depth_nm: float, root: tuple[int, int, int]
) -> None:
    affinities = np.full((3, 3, 2, 4), 200, np.uint8)
    # From (1, 1, 2): a rise of 30 along x, or of 38 along the diagonal of z and x, 1.41 or 1.12 voxels long.
    affinities[:, 1, 1, 1], affinities[:, 2, 1, 3] = 230, 238
    settings = BasinSettings((depth_nm, 10.0, 10.0), reach=0.5, sigma=0, ripple=0)
    found = fragments_of(affinities, None, settings, roi=Roi((1, 1, 1), (2, 1, 3)))
    assert found[1, 1, 2] == (root[0] * 2 + root[1]) * 4 + root[2] + 1


@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 5, 6), (1, 30, 1), (30, 1, 1), (1, 1, 30), (1, 7, 40)])
@pytest.mark.parametrize("value", [False, True])
def test_a_plateau_has_no_cycles_and_one_root(fragments_of: Made, shape: tuple[int, int, int], value: bool) -> None:
    found = fragments_of(painted(np.full(shape, value)), None, BARE)
    assert (found == 1).all()


def test_flat_interiors_split_at_the_ripples_period(fragments_of: Made) -> None:
    settings = BasinSettings(ISOTROPIC, sigma=0, period=8)
    found = fragments_of(painted(np.ones((1, 1, 20), bool)), None, settings)
    # Maxima at 0, 8, 16; the minima at 4 and 12 go to the smaller index.
    assert found.ravel().tolist() == [1] * 5 + [9] * 8 + [17] * 7


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("value", [False, True])
def test_a_volume_one_voxel_thick_has_fragments(fragments_of: Made, axis: int, value: bool) -> None:
    shape = [3, 3, 3]
    shape[axis] = 1
    assert (fragments_of(painted(np.full(shape, value)), (2, 2, 2), BasinSettings(ISOTROPIC)) == 1).all()


def test_per_section_fragments_do_not_cross_sections(fragments_of: Made) -> None:
    affinities = np.random.default_rng(0).integers(0, 256, (3, 4, 9, 11)).astype(np.uint8)
    settings = BasinSettings((50.0, 4.0, 4.0), per_section=True)
    found = fragments_of(affinities, None, settings)
    sections = (found.astype(np.int64) - 1) // (9 * 11)
    np.testing.assert_array_equal(sections, np.broadcast_to(np.arange(4)[:, None, None], found.shape))


def test_per_section_the_z_affinity_is_ignored(fragments_of: Made) -> None:
    affinities = np.random.default_rng(0).integers(0, 256, (3, 4, 9, 11)).astype(np.uint8)
    settings = BasinSettings((50.0, 4.0, 4.0), per_section=True)
    found = fragments_of(affinities, None, settings)
    affinities[0] = 255 - affinities[0]
    np.testing.assert_array_equal(fragments_of(affinities, None, settings), found)


def test_per_section_is_the_default_from_an_anisotropy_of_three() -> None:
    assert wants_sections((30, 10, 10))
    assert not wants_sections((29, 10, 10))


def test_each_fragment_holds_its_root_and_is_connected(fragments_of: Made) -> None:
    from scipy.ndimage import label

    affinities = np.random.default_rng(3).integers(0, 256, (3, 6, 12, 12)).astype(np.uint8)
    found = fragments_of(affinities, None, BasinSettings(ISOTROPIC, reach=4))
    names = np.unique(found)
    assert len(names) > 5
    np.testing.assert_array_equal(found.ravel()[names.astype(np.int64) - 1], names)
    assert all(label(found == name, np.ones((3, 3, 3)))[1] == 1 for name in names)


def test_channels_are_chosen_by_their_offsets(fragments_of: Made) -> None:
    affinities = np.random.default_rng(4).integers(0, 256, (3, 6, 8, 10)).astype(np.uint8)
    settings = BasinSettings(ISOTROPIC, reach=4)
    noise = np.random.default_rng(5).integers(0, 256, (6, 8, 10)).astype(np.uint8)
    shuffled = np.stack([noise, affinities[2], affinities[0], noise, affinities[1]])
    offsets = ((-3, 0, 0), (0, 0, -1), (-1, 0, 0), (0, -9, 0), (0, -1, 0))
    expected = fragments_of(affinities, None, settings)
    np.testing.assert_array_equal(fragments_of(shuffled, None, settings, offsets=offsets), expected)


def test_a_link_past_the_volume_is_replaced_by_the_one_to_the_other_side() -> None:
    # z 2-3 of 4, y 0-2 of 3, x 0-3 of 9; columns past an axis' own length mean nothing.
    block, volume = Roi((2, 0, 0), (2, 3, 4)), (4, 3, 9)
    up = stored_links(block, volume, ((1, 0, 0), (0, 1, 0), (0, 0, 1)), (0, 1, 2)).tolist()
    assert (up[0][:2], up[1][:3], up[2]) == ([0, 0], [0, 1, 1], [0, 1, 2, 3])
    down = stored_links(block, volume, ((0, 0, -1), (0, -1, 0), (-1, 0, 0)), (2, 1, 0)).tolist()
    assert (down[0][:2], down[1][:3], down[2]) == ([0, 1], [1, 1, 2], [1, 1, 2, 3])
    thin = stored_links(Roi((0, 0, 0), (1, 2, 2)), (1, 2, 2), ((-1, 0, 0), (0, -1, 0), (0, 0, -1)), (0, 1, 2))
    assert thin[:, 0].tolist() == [-1, 1, 1]


def test_the_corner_of_a_black_region_is_outside(fragments_of: Made) -> None:
    # White from x = 6 on, black before: every voxel must ascend to the white, the first one too.
    picture = np.zeros((3, 4, 12), bool)
    picture[:, :, 6:] = True
    assert len(np.unique(fragments_of(painted(picture), None, BARE))) == 1


def test_no_fragment_reaches_through_a_mask(fragments_of: Made) -> None:
    # One plateau; the masked column cuts it in two, and the affinities stored there do not count.
    mask = np.ones((1, 2, 7), bool)
    mask[0, :, 3] = False
    found = fragments_of(painted(np.ones((1, 2, 7), bool)), None, BARE, mask=mask)
    assert found.tolist() == [[[1, 1, 1, 0, 7, 7, 7]] * 2]
    assert not fragments_of(painted(np.ones((1, 2, 7), bool)), (1, 1, 2), BARE, mask=np.zeros((1, 2, 7), bool)).any()


def test_voxels_of_low_affinity_are_left_unsegmented(fragments_of: Made) -> None:
    affinities = np.full((3, 1, 1, 5), 200, np.uint8)
    affinities[:, 0, 0, 2] = 76  # 0.298
    settings = BasinSettings(ISOTROPIC, reach=8, sigma=0, ripple=0, mask_boundary=0.3)
    assert fragments_of(affinities, None, settings).tolist() == [[[1, 1, 0, 5, 5]]]
    affinities[:, 0, 0, 2] = 77  # 0.302
    assert (fragments_of(affinities, None, settings) > 0).all()

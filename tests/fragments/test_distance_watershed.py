"""Watershed of each section from elf: hand-drawn sections, and sections without boundaries or without interior."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from neuroseg.fragments.basins import stored_links
from neuroseg.fragments.distance_watershed import boundary_map, distance_watershed
from neuroseg.geometry import Triple, contact_channels, triple, whole

pytest.importorskip("elf")

DOWN: tuple[Triple, ...] = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
UP: tuple[Triple, ...] = ((1, 0, 0), (0, 1, 0), (0, 0, 1))


def given(
    affinities: NDArray[np.uint8], offsets: tuple[Triple, ...] = DOWN
) -> tuple[NDArray[np.uint8], Triple, NDArray[np.int64]]:
    shape, channels = triple(affinities.shape[1:]), contact_channels(offsets)
    return affinities, channels, stored_links(whole(shape), shape, offsets, channels)


def two_cells(sections: int) -> NDArray[np.uint8]:
    """Two cells of 20 x 17 with a wall of two columns, x = 17 and 18, between them."""
    affinities = np.full((3, sections, 20, 36), 255, np.uint8)
    affinities[:, :, :, 17:19] = 0
    return affinities


def test_the_boundary_is_the_weaker_link_within_the_section() -> None:
    affinities = np.full((3, 1, 2, 3), 255, np.uint8)
    affinities[0] = 0  # along z: does not count
    affinities[1, 0, 1] = [255, 204, 0]
    affinities[2, 0, 1] = [255, 51, 255]
    found = boundary_map(*given(affinities))
    # The first row stores no link along y, and shows that of the row beside it; likewise the first column along x.
    np.testing.assert_allclose(found[0], [[0, 0.2, 1], [0.8, 0.8, 1]], atol=1e-6)


def test_offsets_in_the_other_direction_give_the_same_boundary() -> None:
    affinities = np.full((3, 1, 2, 2), 255, np.uint8)
    affinities[1, 0, 0] = 51
    np.testing.assert_allclose(boundary_map(*given(affinities, UP))[0], 0.8, atol=1e-6)


def test_a_wall_separates_two_cells_in_every_section() -> None:
    labels, count = distance_watershed(*given(two_cells(3)))
    assert count == 6
    for z in range(3):
        left, right = 2 * z + 1, 2 * z + 2
        assert (labels[z, :, :17] == left).all()
        assert (labels[z, :, 19:] == right).all()
        assert np.isin(labels[z, :, 17:19], (left, right)).all(), "the wall is flooded from both sides"


def test_fragments_below_a_hundred_pixels_join_a_neighbour() -> None:
    affinities = np.full((3, 1, 20, 36), 255, np.uint8)
    affinities[:, :, :, 2:4] = 0  # 20 x 2 pixels on its left
    labels, count = distance_watershed(*given(affinities))
    assert count == 1
    assert (labels == 1).all()


def test_links_along_z_are_ignored() -> None:
    affinities = two_cells(2)
    affinities[0] = 0
    np.testing.assert_array_equal(
        distance_watershed(*given(affinities))[0], distance_watershed(*given(two_cells(2)))[0]
    )


@pytest.mark.parametrize("value", [0, 255])
def test_a_section_without_boundaries_or_without_interior_is_one_fragment(value: int) -> None:
    labels, count = distance_watershed(*given(np.full((3, 2, 5, 6), value, np.uint8)))
    assert count == 2
    assert (labels[0] == 1).all()
    assert (labels[1] == 2).all()


def test_an_empty_block_has_no_fragments() -> None:
    labels, count = distance_watershed(*given(np.zeros((3, 0, 4, 4), np.uint8)))
    assert (labels.shape, count) == ((0, 4, 4), 0)

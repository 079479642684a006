"""Seeded watershed of each section: hand-drawn sections, and sections without boundaries or without interior."""

from __future__ import annotations

import numpy as np
import pytest
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.fragments.basins import stored_links
from neuroseg.fragments.seeded import seeded_watershed
from neuroseg.geometry import Triple, contact_channels, triple, whole

pytest.importorskip("skimage")

DOWN: tuple[Triple, ...] = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))


def labels_of(affinities: NDArray[np.uint8], offsets: tuple[Triple, ...] = DOWN) -> tuple[NDArray[np.uint64], int]:
    shape = triple(affinities.shape[1:])
    channels = contact_channels(offsets)
    roi: Roi = whole(shape)
    return seeded_watershed(affinities, channels, stored_links(roi, shape, offsets, channels))


def two_cells(sections: int) -> NDArray[np.uint8]:
    """Two cells 7 voxels wide with a wall of two columns, x = 7 and 8, between them."""
    affinities = np.full((3, sections, 7, 16), 255, np.uint8)
    affinities[:, :, :, 7:9] = 0
    return affinities


def test_a_wall_separates_two_cells_in_every_section() -> None:
    labels, count = labels_of(two_cells(3))
    assert count == 6
    for z in range(3):
        left, right = 2 * z + 1, 2 * z + 2
        assert (labels[z, :, :7] == left).all()
        assert (labels[z, :, 9:] == right).all()
        assert np.isin(labels[z, :, 7:9], (left, right)).all(), "the wall is flooded from both sides"


def test_links_along_z_are_ignored() -> None:
    affinities = two_cells(2)
    affinities[0] = 0
    weak, _ = labels_of(affinities)
    strong, _ = labels_of(two_cells(2))
    np.testing.assert_array_equal(weak, strong)


@pytest.mark.parametrize("value", [0, 255])
def test_a_section_without_boundaries_or_without_interior_is_one_fragment(value: int) -> None:
    labels, count = labels_of(np.full((3, 2, 5, 6), value, np.uint8))
    assert count == 2
    assert (labels[0] == 1).all()
    assert (labels[1] == 2).all()


def test_an_empty_block_has_no_fragments() -> None:
    labels, count = labels_of(np.zeros((3, 0, 4, 4), np.uint8))
    assert (labels.shape, count) == ((0, 4, 4), 0)

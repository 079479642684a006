"""The mutex watershed: by hand, with and without long-range channels."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from neuroseg.fragments.mutex import mutex_watershed
from neuroseg.geometry import Triple

pytest.importorskip("bioimage_cpp")

DOWN: tuple[Triple, ...] = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
UP: tuple[Triple, ...] = ((1, 0, 0), (0, 1, 0), (0, 0, 1))


def row(links: list[int], more: list[list[int]] | None = None) -> NDArray[np.uint8]:
    """Affinities of one row of voxels: the channel along x, and more channels after it."""
    channels = np.zeros((3 + len(more or []), 1, 1, len(links)), np.uint8)
    channels[2, 0, 0] = links
    for n, channel in enumerate(more or []):
        channels[3 + n, 0, 0] = channel
    return channels


def test_weak_links_cut_a_row() -> None:
    labels, count = mutex_watershed(row([0, 200, 40, 220, 130, 120]), DOWN, (0, 1, 2))
    # The last voxel is single, so it is flooded from its neighbour.
    assert labels[0, 0].tolist() == [1, 1, 2, 2, 2, 2]
    assert count == 2


def test_links_in_the_other_direction_give_the_same_result() -> None:
    labels, _ = mutex_watershed(row([200, 40, 220, 130, 120, 0]), UP, (0, 1, 2))
    assert labels[0, 0].tolist() == [1, 1, 2, 2, 2, 2]


def test_a_long_range_channel_separates_connected_voxels() -> None:
    offsets = (*DOWN, (0, 0, -3))
    joined, one = mutex_watershed(row([0, 200, 190, 200], [[0, 0, 0, 255]]), offsets, (0, 1, 2))
    cut, two = mutex_watershed(row([0, 200, 190, 200], [[0, 0, 0, 0]]), offsets, (0, 1, 2))
    assert (one, two) == (1, 2)
    assert joined[0, 0].tolist() == [1, 1, 1, 1]
    assert cut[0, 0].tolist() == [1, 1, 2, 2], "the weakest link of the chain gives way"


def test_direct_neighbours_may_be_any_channels() -> None:
    order = [3, 2, 0, 1]
    offsets = (*DOWN, (0, 0, -3))
    affinities = row([0, 200, 190, 200], [[0, 0, 0, 0]])
    shuffled, _ = mutex_watershed(affinities[order], [offsets[c] for c in order], (2, 3, 1))
    np.testing.assert_array_equal(shuffled, mutex_watershed(affinities, offsets, (0, 1, 2))[0])


def test_a_block_without_interior_is_one_fragment() -> None:
    labels, count = mutex_watershed(np.zeros((3, 3, 4, 5), np.uint8), DOWN, (0, 1, 2))
    assert (labels == 1).all()
    assert count == 1


def test_an_empty_block_has_no_fragments() -> None:
    labels, count = mutex_watershed(np.zeros((3, 0, 4, 4), np.uint8), DOWN, (0, 1, 2))
    assert (labels.shape, count) == ((0, 4, 4), 0)

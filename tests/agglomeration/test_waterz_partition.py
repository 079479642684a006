"""The partition by waterz: both directions of links, and no output on stdout."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from neuroseg.agglomeration.scorings import parse_scoring
from neuroseg.agglomeration.waterz import waterz_partition
from neuroseg.geometry import Triple

pytest.importorskip("waterz")

DOWN: tuple[Triple, ...] = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
SHUFFLED_UP: tuple[Triple, ...] = ((0, 0, 1), (0, 0, -7), (1, 0, 0), (0, 1, 0))
IDS = np.array([100, 2**40, 2**41, 2**42], np.uint64)


def four_in_a_row() -> tuple[NDArray[np.uint8], NDArray[np.uint64]]:
    """Four fragments of 2 x 2 x 2 voxels along x, with links of 204, 26 and 230 between them."""
    labels = np.repeat(IDS, 2) * np.ones((2, 2, 1), np.uint64)
    affinities = np.full((3, 2, 2, 8), 255, np.uint8)
    affinities[2, :, :, 2], affinities[2, :, :, 4], affinities[2, :, :, 6] = 204, 26, 230
    return affinities, labels


@pytest.mark.parametrize("scoring", ["mean", "quantile:50", "quantile:75:all"])
def test_links_below_the_threshold_join(scoring: str, capfd: pytest.CaptureFixture[str]) -> None:
    affinities, labels = four_in_a_row()
    before = labels.copy()
    for threshold, expected in ((0.15, [0, 1, 2, 2]), (0.5, [0, 0, 2, 2]), (0.95, [0, 0, 0, 0])):
        parts = waterz_partition(affinities, DOWN, labels, IDS, parse_scoring(scoring), threshold=threshold).tolist()
        assert [parts.index(part) for part in parts] == expected, threshold
    assert capfd.readouterr().out == ""
    np.testing.assert_array_equal(labels, before)


def test_links_may_point_up_in_any_order_of_channels() -> None:
    affinities, labels = four_in_a_row()
    stored = np.full((4, *labels.shape), 255, np.uint8)
    for channel, axis in ((0, 2), (2, 0), (3, 1)):
        stored[channel] = np.roll(affinities[axis], -1, axis)
    stored[1] = 0
    parts = waterz_partition(stored, SHUFFLED_UP, labels, IDS, parse_scoring("mean"), threshold=0.5).tolist()
    assert [parts.index(part) for part in parts] == [0, 0, 2, 2]


def test_unsegmented_voxels_belong_to_no_part() -> None:
    affinities, labels = four_in_a_row()
    labels[:, :, 2:4] = 0
    parts = waterz_partition(affinities, DOWN, labels, IDS[[0, 2, 3]], parse_scoring("mean"), threshold=0.95).tolist()
    assert [parts.index(part) for part in parts] == [0, 1, 1]

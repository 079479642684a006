"""The places of a report: inside the region, where there are segments, spread, and always the same."""

from __future__ import annotations

import numpy as np
from funlib.geometry import Roi

from neuroseg.report.shown_places import crop_around, crop_shape, filled_cells, spread_places


def test_a_crop_has_equal_edges_in_nm_and_fits_the_region() -> None:
    region = Roi((0, 0, 0), (100, 1000, 1000))
    assert crop_shape(region, (10, 10, 10)) == (100, 256, 256)
    assert crop_shape(region, (40, 10, 10)) == (64, 256, 256)
    assert crop_shape(Roi((5, 5, 5), (3, 9, 2000)), (50, 4, 4)) == (3, 9, 256)


def test_a_crop_at_the_border_is_moved_into_the_region() -> None:
    region = Roi((10, 20, 30), (10, 20, 30))
    assert crop_around((15, 30, 45), (4, 4, 4), region) == Roi((13, 28, 43), (4, 4, 4))
    assert crop_around((0, 99, 45), (4, 20, 4), region) == Roi((10, 20, 43), (4, 20, 4))


def test_cells_know_their_labelled_share() -> None:
    labelled = np.zeros((2, 4, 5), bool)
    labelled[:, :2, :2] = True
    labelled[0, 2:, 4] = True
    centres, shares = filled_cells(labelled, (2, 2, 2))
    assert shares.tolist() == [1.0, 0.0, 0.0, 0.0, 0.0, 0.5]
    assert centres[0].tolist() == [1, 1, 1]
    assert centres[-1].tolist() == [1, 3, 4.5]


def test_places_are_spread_over_the_labelled_cells() -> None:
    centres = np.array([[0, 0, 0], [0, 0, 50], [0, 0, 100], [0, 90, 100], [0, 300, 300]], float)
    shares = np.array([0.8, 0.9, 0.7, 0.6, 0.1])
    assert spread_places(centres, shares, (0, 0, 60)).tolist() == [[0, 0, 50], [0, 90, 100], [0, 0, 0]]


def test_without_labels_there_is_no_place() -> None:
    assert len(spread_places(np.zeros((4, 3)), np.zeros(4), (0, 0, 0))) == 0
    assert len(spread_places(np.zeros((1, 3)), np.ones(1), (0, 0, 0))) == 1

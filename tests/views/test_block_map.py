"""Maps of blocks: one cell per block, layers side by side or projected, and small for many blocks."""

from __future__ import annotations

import numpy as np

from neuroseg.views.block_map import DONE, FAILED, LEFT, OUTSIDE, STATE_COLOURS, is_projected, number_map, state_map
from neuroseg.views.webp import ramp


def cells(picture: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The colour at the first pixel of each cell."""
    height, width = picture.shape[0] // rows, picture.shape[1] // columns
    return picture[::height, ::width]


def test_layers_lie_side_by_side_with_a_gap() -> None:
    states = np.array([[[DONE, FAILED]], [[LEFT, OUTSIDE]]], np.uint8)
    found = cells(state_map(states), 1, 5)
    expected = [DONE, FAILED, OUTSIDE, LEFT, OUTSIDE]
    assert found.tolist() == [STATE_COLOURS[expected].tolist()]


def test_of_many_layers_the_worst_state_is_shown() -> None:
    states = np.full((9, 1, 2), DONE, np.uint8)
    states[4, 0, 1] = FAILED
    assert is_projected(states.shape)
    assert cells(state_map(states), 1, 2).tolist() == [STATE_COLOURS[[DONE, FAILED]].tolist()]


def test_numbers_are_scaled_and_unknown_blocks_are_transparent() -> None:
    numbers = np.array([[[0.0, 5.0, np.nan, 10.0]]])
    found = cells(number_map(numbers, 10.0), 1, 4)[0]
    assert found[:, 3].tolist() == [255, 255, 0, 255]
    assert found[[0, 1, 3], :3].tolist() == ramp(np.array([0.0, 0.5, 1.0])).tolist()


def test_a_projection_ignores_unknown_blocks() -> None:
    numbers = np.full((9, 1, 2), np.nan)
    numbers[3, 0, 0], numbers[5, 0, 0] = 2.0, 8.0
    found = cells(number_map(numbers, 8.0), 1, 2)[0]
    assert found[0].tolist() == [*ramp(np.array([1.0]))[0].tolist(), 255]
    assert found[1, 3] == 0


def test_nothing_done_gives_an_empty_map() -> None:
    assert not number_map(np.full((2, 3, 4), np.nan), 0.0).any()
    assert number_map(np.zeros((1, 1, 1)), 0.0)[0, 0].tolist() == [*ramp(np.zeros(1))[0].tolist(), 255]


def test_the_map_of_a_hundred_thousand_blocks_is_small() -> None:
    states = np.full((47, 47, 47), DONE, np.uint8)
    assert max(state_map(states).shape) <= 1000
    assert max(state_map(np.full((8, 300, 300), DONE, np.uint8)).shape) <= 2500

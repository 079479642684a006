"""Dense numbers for large ids, and replaced ids."""

from __future__ import annotations

import numpy as np

from neuroseg.edges.dense import DenseFragments, dense_fragments, with_ids


def test_numbers_map_to_ids_and_zero_to_zero() -> None:
    fragments = np.array([[[7, 0, 2**60], [7, 9, 9]]], np.uint64)
    numbers, ids = dense_fragments(fragments)
    assert numbers.dtype == np.uint32
    assert sorted(ids.tolist()) == [0, 7, 9, 2**60]
    assert numbers[0, 0, 1] == ids[0] == 0
    np.testing.assert_array_equal(ids[numbers], fragments)


def test_an_empty_array_has_no_numbers() -> None:
    numbers, ids = dense_fragments(np.zeros((0, 3, 4), np.uint64))
    assert (numbers.shape, ids.tolist()) == ((0, 3, 4), [0])


def test_fragments_with_the_same_id_are_merged() -> None:
    fragments = DenseFragments(np.array([[[1, 2, 3, 0]]], np.uint32), np.array([0, 30, 20, 10], np.uint64))
    numbers, ids = with_ids(fragments, np.array([0, 5, 40, 5], np.uint64))
    assert ids[numbers].tolist() == [[[5, 40, 5, 0]]]
    assert len(ids) == 3
    assert with_ids(fragments, fragments.ids) is fragments

"""Splits and merges of one neuron, in arrays drawn by hand."""

from __future__ import annotations

import numpy as np

from neuroseg.evaluation.neuron_errors import NeuronError, neuron_errors, pieces_of


def flat(*rows: str) -> np.ndarray:
    """A volume of one section; each character is a label."""
    return np.array([[[int(label) for label in row] for row in rows]], np.uint64)


REFERENCE = flat(
    "1111111111",
    "1111111111",
    "0000000000",
    "2222233333",
)


def test_a_right_segmentation_with_other_ids_has_no_errors() -> None:
    other_ids = np.array([0, 9, 4, 2**63], np.uint64)[REFERENCE]
    assert neuron_errors(other_ids, REFERENCE, 1) == ()
    assert pieces_of(other_ids, REFERENCE, 1) == [9]


def test_each_piece_but_the_largest_is_a_split_where_it_meets_the_rest() -> None:
    segments = flat(
        "5555577788",
        "5555577788",
        "0000000000",
        "2222233333",
    )
    assert pieces_of(segments, REFERENCE, 1) == [5, 7, 8]
    assert neuron_errors(segments, REFERENCE, 1) == (
        NeuronError("split", 7, 1, 6, (0, 0, 5)),
        NeuronError("split", 8, 1, 4, (0, 0, 8)),
    )
    assert neuron_errors(segments, REFERENCE, 2) == ()


def test_other_objects_of_its_segment_are_merges_at_the_place_nearest_to_it() -> None:
    segments = flat(
        "5555555555",
        "5555555555",
        "0000000500",
        "2222255555",
    )
    errors = neuron_errors(segments, REFERENCE, 1)
    assert errors == (NeuronError("merge", 5, 3, 5, (0, 3, 7)),)
    # Seen from the other object, the same segment merges the neuron.
    assert [each.other for each in neuron_errors(segments, REFERENCE, 3)] == [1]


def test_splits_come_first_and_the_largest_of_them() -> None:
    segments = flat(
        "5555559777",
        "5555557777",
        "0000000000",
        "7777722222",
    )
    errors = neuron_errors(segments, REFERENCE, 1)
    assert [(each.error, each.segment, each.voxels) for each in errors] == [
        ("split", 7, 7), ("split", 9, 1), ("merge", 7, 5),
    ]  # fmt: skip


def test_small_pieces_and_background_are_no_errors() -> None:
    reference = np.ones((4, 20, 20), np.uint64)
    segments = np.full((4, 20, 20), 3, np.uint64)
    segments[0, 0, :15] = 4  # 1.25 % of the 1200 voxels that are not background
    segments[3] = 0
    assert neuron_errors(segments, reference, 1) == (NeuronError("split", 4, 1, 15, (0, 0, 7)),)
    segments[0, 0, :10] = 3
    assert neuron_errors(segments, reference, 1) == ()


def test_an_inexact_border_between_two_large_neurons_is_no_error() -> None:
    reference = np.ones((2, 20, 40), np.uint64)
    reference[:, :, 20:] = 2
    segments = reference + np.uint64(6)
    segments[:, :, 20] = 7  # a twentieth of neuron 2
    assert neuron_errors(segments, reference, 1) == neuron_errors(segments, reference, 2) == ()
    segments[:, :, 20:23] = 7  # more than a tenth
    assert [(each.error, each.segment, each.other) for each in neuron_errors(segments, reference, 1)] == [
        ("merge", 7, 2)
    ]
    assert [(each.error, each.segment, each.other) for each in neuron_errors(segments, reference, 2)] == [
        ("split", 7, 2), ("merge", 7, 1),
    ]  # fmt: skip


def test_a_neuron_that_the_segmentation_does_not_cover_has_no_pieces() -> None:
    assert pieces_of(np.zeros((2, 2, 2), np.uint64), np.ones((2, 2, 2), np.uint64), 1) == []
    assert neuron_errors(np.zeros((2, 2, 2), np.uint64), np.ones((2, 2, 2), np.uint64), 1) == ()

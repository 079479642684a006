"""Places in the array of fragments: the middle of a contact and the tip of a segment, for any box size."""

from __future__ import annotations

import numpy as np
import pytest
from funlib.geometry import Roi
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from neuroseg.edges.dense import dense_fragments
from neuroseg.edges.nodes import block_nodes
from neuroseg.evaluation.fragment_places import box_of, contact_place, tip_place
from neuroseg.tables import Table
from neuroseg.volumes.volume import Volume

SIZE_NM = (40.0, 10.0, 10.0)
Labels = NDArray[np.uint64]


class Recorded:
    """An array in memory that records the largest region read."""

    def __init__(self, labels: Labels) -> None:
        self.labels, self.shape, self.dtype, self.chunks, self.largest = (
            labels,
            labels.shape,
            labels.dtype,
            (2, 3, 4),
            0,
        )

    def __getitem__(self, box: tuple[slice, slice, slice]) -> Labels:
        found = self.labels[box]
        self.largest = max(self.largest, found.size)
        return found


def volume(labels: Labels) -> Volume:
    return Volume("fragments", Recorded(labels), SIZE_NM, (0.0, 0.0, 0.0))


def nodes_of(labels: Labels) -> Table:
    return block_nodes(dense_fragments(labels), (0, 0, 0))


def contact(labels: Labels, u: int, v: int, **options: int) -> object:
    nodes = nodes_of(labels)
    ends = [(each, box_of(nodes, int(np.searchsorted(nodes["fragment"], each)))) for each in (u, v)]
    return contact_place(volume(labels), *ends, SIZE_NM, **options)


def test_the_middle_of_a_contact() -> None:
    labels = np.full((1, 5, 8), 4, np.uint64)
    labels[0, :, 5:] = 9
    assert contact(labels, 4, 9) == ((0, 2, 4), (0, 2, 5))
    assert contact(labels, 9, 4) == ((0, 2, 5), (0, 2, 4))


def test_of_two_middle_pairs_the_first() -> None:
    labels = np.array([[[1, 1], [1, 1]], [[2, 2], [2, 2]]], np.uint64)
    assert contact(labels, 1, 2) == ((0, 0, 0), (1, 0, 0))
    labels = np.array([[[0, 1], [0, 2]], [[1, 0], [2, 0]]], np.uint64)
    assert contact(labels, 1, 2) == ((0, 0, 1), (0, 1, 1))


def test_fragments_that_meet_only_at_an_edge_do_not_touch() -> None:
    labels = np.array([[[1, 0], [0, 2]]], np.uint64)
    assert contact(labels, 1, 2) is None


@settings(max_examples=40)
@given(seed=st.integers(0, 2**31), box_voxels=st.sampled_from([8, 50]))
def test_places_do_not_depend_on_the_boxes(seed: int, box_voxels: int) -> None:
    labels = np.random.default_rng(seed).integers(1, 4, (5, 7, 6)).astype(np.uint64)
    assert contact(labels, 1, 2, box_voxels=box_voxels) == contact(labels, 1, 2)
    u, v = contact(labels, 1, 2)  # type: ignore[misc]
    assert (labels[u], labels[v]) == (1, 2)
    assert np.abs(np.subtract(u, v)).sum() == 1
    nodes, rows = nodes_of(labels), np.array([0, 2])
    found = tip_place(volume(labels), nodes, rows, SIZE_NM, box_voxels=box_voxels)
    at = np.argwhere(labels != 2)
    far = (((at - at.mean(axis=0)) * SIZE_NM) ** 2).sum(axis=1)
    assert far[(at == found[0]).all(axis=1)] == pytest.approx(far.max())
    assert labels[found[0]] == nodes["fragment"][found[1]]
    assert found == tip_place(volume(labels), nodes, rows, SIZE_NM)


def test_a_tip_is_found_in_nm_and_in_the_first_of_equal_places() -> None:
    labels = np.zeros((3, 1, 9), np.uint64)
    labels[1] = 5
    labels[2, 0, 4] = 7
    # The centre is nearly (1.1, 0, 4). In voxels, x = 0 is farthest; in nm, 40 nm in z equal 4 voxels in x.
    assert tip_place(volume(labels), nodes_of(labels), np.array([0, 1]), SIZE_NM)[0] == (1, 0, 0)
    thick = (100.0, 10.0, 10.0)
    assert tip_place(volume(labels), nodes_of(labels), np.array([0, 1]), thick) == ((2, 0, 4), 1)


def test_only_small_regions_are_read() -> None:
    labels = np.ones((20, 30, 40), np.uint64)
    labels[:, 15:] = 2
    labels[3:5, 3:5, 3:5] = 8
    fragments = volume(labels)
    ends = ((1, Roi((0, 0, 0), (20, 15, 40))), (8, Roi((3, 3, 3), (2, 2, 2))))
    contact_place(fragments, *ends, SIZE_NM)
    assert fragments.array.largest <= 4**3
    assert contact(labels, 1, 2) is not None
    contact_place(fragments, ends[0], (2, Roi((0, 15, 0), (20, 15, 40))), SIZE_NM, box_voxels=100)
    assert fragments.array.largest <= 1000

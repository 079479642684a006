"""The node table: voxels, coordinate sums and bounding boxes of fragments, summed across blocks."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroseg.blocks import whole_lattice
from neuroseg.edges.dense import DenseFragments, dense_fragments
from neuroseg.edges.nodes import block_nodes
from neuroseg.geometry import Triple, slices, triple
from neuroseg.tables import NODES, Table, combined


def rows_of(table: Table) -> list[tuple]:  # type: ignore[type-arg]
    """The rows of a table as plain numbers."""
    return list(zip(*(column.tolist() for column in table.values()), strict=True))


def test_hand_counted_statistics_in_global_coordinates() -> None:
    fragments = np.array([[[7, 7, 0], [2, 7, 0]]], np.uint64)
    nodes = block_nodes(dense_fragments(fragments), (10, 20, 30))
    #       voxels  sums of z y x     least z y x  largest
    assert rows_of(nodes) == [
        (2, 1, 10, 21, 30, 10, 21, 30, 10, 21, 30),
        (7, 3, 30, 61, 92, 10, 20, 30, 10, 21, 31),
    ]
    assert {name: column.dtype for name, column in nodes.items()} == {n: np.dtype(d) for n, d in NODES.items()}


def test_background_has_no_nodes() -> None:
    nodes = block_nodes(dense_fragments(np.zeros((2, 3, 4), np.uint64)), (0, 0, 0))
    assert {name: (c.dtype, len(c)) for name, c in nodes.items()} == {n: (np.dtype(d), 0) for n, d in NODES.items()}


def test_a_number_without_voxels_has_no_row() -> None:
    fragments = DenseFragments(np.array([[[2, 0, 4]]], np.uint32), np.array([0, 30, 20, 5, 10], np.uint64))
    assert block_nodes(fragments, (0, 0, 0))["fragment"].tolist() == [10, 20]


def test_sums_do_not_wrap_in_large_volumes() -> None:
    nodes = block_nodes(dense_fragments(np.ones((10, 10, 10), np.uint64)), (2**31, 2**31, 2**31))
    assert nodes["sum_z"].tolist() == [1000 * 2**31 + 4500]
    assert nodes["max_x"].tolist() == [2**31 + 9]


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(*[st.integers(1, 7)] * 3),
    block=st.tuples(*[st.integers(1, 7)] * 3),
    labels=st.sampled_from([1, 3, 30]),
)
def test_nodes_sum_across_blocks(seed: int, shape: Triple, block: Triple, labels: int) -> None:
    rng = np.random.default_rng(seed)
    ids = np.append(np.uint64(0), rng.integers(1, 2**64 - 1, labels, dtype=np.uint64))
    fragments = ids[rng.integers(0, len(ids), shape)]
    parts = [
        block_nodes(
            dense_fragments(np.ascontiguousarray(fragments[slices(cut.write_roi)])), triple(cut.write_roi.begin)
        )
        for cut in whole_lattice(shape, block).blocks()
    ]
    expected = []
    for fragment in np.unique(fragments[fragments > 0]):
        at = np.argwhere(fragments == fragment)
        expected.append((int(fragment), len(at), *at.sum(0).tolist(), *at.min(0).tolist(), *at.max(0).tolist()))
    assert rows_of(combined(parts[::-1], NODES)) == expected
    assert rows_of(block_nodes(dense_fragments(fragments), (0, 0, 0))) == expected

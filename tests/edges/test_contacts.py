"""The edge table: counted by hand, compared with a slow count of every voxel pair, and summed across blocks."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from funlib.geometry import Roi
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from neuroseg.blocks import Lattice
from neuroseg.edges.contacts import block_edges
from neuroseg.edges.dense import dense_fragments
from neuroseg.geometry import Triple, contact_channels, grown, slices, triple, whole
from neuroseg.tables import BINS, EDGES, Table, combined

DOWN: tuple[Triple, ...] = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
UP: tuple[Triple, ...] = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
MIXED: tuple[Triple, ...] = ((0, 0, -3), (0, 1, 0), (-1, 0, 0), (0, 0, 1), (0, 0, -1))


def rows_of(table: Table) -> list[tuple]:  # type: ignore[type-arg]
    """The rows of a table as plain numbers."""
    return list(zip(*(column.tolist() for column in table.values()), strict=True))


def whole_edges(affinities: NDArray[np.uint8], fragments: NDArray[np.uint64], offsets: tuple[Triple, ...]):  # type: ignore[no-untyped-def]
    """Return edges and histograms of a volume as one block."""
    roi = whole(fragments.shape)
    return block_edges(
        affinities, dense_fragments(fragments), offsets=offsets, read_roi=roi, write_roi=roi, with_bins=True
    )


def counted_edges(affinities: NDArray[np.uint8], fragments: NDArray[np.uint64], offsets: tuple[Triple, ...]):  # type: ignore[no-untyped-def]
    """Return the same rows, counted pair by pair."""
    contacts = defaultdict(list)
    for channel in contact_channels(offsets):
        for voxel in np.ndindex(fragments.shape):
            partner = tuple(np.add(voxel, offsets[channel]))
            if any(p < 0 or p >= size for p, size in zip(partner, fragments.shape, strict=True)):
                continue
            pair = sorted((int(fragments[voxel]), int(fragments[partner])))
            if pair[0] != pair[1] and pair[0] != 0:
                contacts[tuple(pair)].append(int(affinities[(channel, *voxel)]))
    edges = [(*pair, len(values), sum(values), max(values)) for pair, values in sorted(contacts.items())]
    bins = [(*pair, b, values.count(b)) for pair, values in sorted(contacts.items()) for b in sorted(set(values))]
    return edges, bins


def test_hand_counted_contacts_of_three_fragments() -> None:
    # z = 0:  1 1 2     z = 1:  1 2 2
    #         3 3 2             3 3 0
    fragments = np.array([[[1, 1, 2], [3, 3, 2]], [[1, 2, 2], [3, 3, 0]]], np.uint64)
    affinities = np.full((3, 2, 2, 3), 77, np.uint8)  # 77 lies between voxels that are no contact
    affinities[0, 1, 0, 1] = 10  # 2 over 1
    affinities[2, 0, 0, 2], affinities[2, 1, 0, 1] = 20, 200  # 1 | 2 twice
    affinities[1, 0, 1, 0], affinities[1, 0, 1, 1], affinities[1, 1, 1, 0] = 5, 0, 255  # 3 behind 1, three times
    affinities[1, 1, 1, 1], affinities[2, 0, 1, 2] = 100, 100  # 3 behind 2; 3 | 2
    edges, bins = whole_edges(affinities, fragments, DOWN)
    assert rows_of(edges) == [(1, 2, 3, 230, 200), (1, 3, 3, 260, 255), (2, 3, 2, 200, 100)]
    assert rows_of(bins) == [
        (1, 2, 10, 1), (1, 2, 20, 1), (1, 2, 200, 1),
        (1, 3, 0, 1), (1, 3, 5, 1), (1, 3, 255, 1),
        (2, 3, 100, 2),
    ]  # fmt: skip
    assert {name: column.dtype for name, column in edges.items()} == {n: np.dtype(d) for n, d in EDGES.items()}
    assert {name: column.dtype for name, column in bins.items()} == {n: np.dtype(d) for n, d in BINS.items()}


@pytest.mark.parametrize(("offsets", "owner", "affinity"), [(DOWN, 1, 40), (UP, 0, 30)])
def test_a_pair_belongs_to_the_block_that_writes_the_voxel_with_the_affinity(
    offsets: tuple[Triple, ...], owner: int, affinity: int
) -> None:
    fragments = np.array([[[4, 9]]], np.uint64)
    affinities = np.zeros((3, 1, 1, 2), np.uint8)
    affinities[2] = [[[30, 40]]]
    for block in (0, 1):
        write = Roi((0, 0, block), (1, 1, 1))
        edges, _ = block_edges(
            np.ascontiguousarray(affinities[(slice(None), *slices(write))]), dense_fragments(fragments),
            offsets=offsets, read_roi=whole((1, 1, 2)), write_roi=write,
        )  # fmt: skip
        assert rows_of(edges) == ([(4, 9, 1, affinity, affinity)] if block == owner else [])


def test_label_zero_has_no_edges() -> None:
    fragments = np.array([[[1, 0, 2, 2, 0]]], np.uint64)
    edges, bins = whole_edges(np.full((3, 1, 1, 5), 255, np.uint8), fragments, DOWN)
    assert rows_of(edges) == rows_of(bins) == []


@pytest.mark.parametrize("fill", [0, 7])
def test_a_volume_of_one_label_has_no_edges(fill: int) -> None:
    fragments = np.full((3, 4, 5), fill, np.uint64)
    edges, bins = whole_edges(np.zeros((3, 3, 4, 5), np.uint8), fragments, DOWN)
    assert {name: (c.dtype, len(c)) for name, c in edges.items()} == {n: (np.dtype(d), 0) for n, d in EDGES.items()}
    assert {name: (c.dtype, len(c)) for name, c in bins.items()} == {n: (np.dtype(d), 0) for n, d in BINS.items()}


def test_ids_beyond_32_and_63_bits_keep_their_value_and_order() -> None:
    fragments = np.array([[[2**63 + 5, 2**40, 3]]], np.uint64)
    edges, _ = whole_edges(np.full((3, 1, 1, 3), 9, np.uint8), fragments, DOWN)
    assert rows_of(edges) == [(3, 2**40, 1, 9, 9), (2**40, 2**63 + 5, 1, 9, 9)]


def test_histograms_are_empty_unless_requested() -> None:
    fragments, affinities = np.array([[[1, 2]]], np.uint64), np.zeros((3, 1, 1, 2), np.uint8)
    roi = whole((1, 1, 2))
    edges, bins = block_edges(affinities, dense_fragments(fragments), offsets=DOWN, read_roi=roi, write_roi=roi)
    assert len(edges["u"]) == 1
    assert len(bins["u"]) == 0


def random_volume(seed: int, shape: Triple, labels: int, channels: int):  # type: ignore[no-untyped-def]
    """Affinities, and fragments of sparse ids (0 among them)."""
    rng = np.random.default_rng(seed)
    ids = np.append(np.uint64(0), rng.integers(1, 2**60, labels, dtype=np.uint64))
    levels = rng.choice([0, 1, 127, 128, 254, 255], (channels, *shape))
    return levels.astype(np.uint8), ids[rng.integers(0, len(ids), shape)]


def test_a_row_longer_than_the_first_table_is_counted() -> None:
    # More contacts in a row of voxels than the table of edges has rows at first, and twice as many in the next one.
    fragments = np.arange(1, 6001, dtype=np.uint64).reshape(1, 2, 3000)
    roi = whole((1, 2, 3000))
    affinities = np.full((1, 1, 2, 3000), 7, np.uint8)
    edges, _ = block_edges(
        affinities, dense_fragments(fragments), offsets=((0, 0, -1),), read_roi=roi, write_roi=roi, channels=(0,)
    )
    expected = [number for number in range(1, 6000) if number != 3000]
    assert edges["u"].tolist() == expected
    assert edges["v"].tolist() == [number + 1 for number in expected]
    assert set(edges["affinity_sum"].tolist()) == {7}


def test_thousands_of_edges_are_counted_correctly() -> None:
    affinities, fragments = random_volume(0, (14, 15, 16), 120, 3)
    edges, bins = whole_edges(affinities, fragments, DOWN)
    assert len(edges["u"]) > 4096, "the tables inside must have grown more than once"
    expected_edges, expected_bins = counted_edges(affinities, fragments, DOWN)
    assert rows_of(edges) == expected_edges
    assert rows_of(bins) == expected_bins


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    block=st.tuples(*[st.integers(1, 6)] * 3),
    labels=st.sampled_from([1, 3, 30]),
    offsets=st.sampled_from([DOWN, UP, MIXED]),
    with_roi=st.booleans(),
)
def test_edges_sum_across_blocks(
    seed: int, shape: Triple, block: Triple, labels: int, offsets: tuple[Triple, ...], with_roi: bool
) -> None:
    affinities, fragments = random_volume(seed, shape, labels, len(offsets))
    begin = [size // 3 if with_roi else 0 for size in shape]
    roi = Roi(begin, [size - b for size, b in zip(shape, begin, strict=True)])
    parts = []
    for cut in Lattice(shape, block, roi).blocks():
        read = grown(cut.write_roi, (1, 1, 1), roi)
        made = block_edges(
            np.ascontiguousarray(affinities[(slice(None), *slices(cut.write_roi))]),
            dense_fragments(np.ascontiguousarray(fragments[slices(read)])),
            offsets=offsets, read_roi=read, write_roi=cut.write_roi, with_bins=True,
        )  # fmt: skip
        parts.append(made)
    # The order of parts does not matter.
    edges = combined([part[0] for part in parts[::-1]], EDGES)
    bins = combined([part[1] for part in parts[::-1]], BINS)
    inside = slices(roi)
    expected_edges, expected_bins = counted_edges(affinities[(slice(None), *inside)], fragments[inside], offsets)
    assert rows_of(edges) == expected_edges
    assert rows_of(bins) == expected_bins
    one = block_edges(
        np.ascontiguousarray(affinities[(slice(None), *inside)]),
        dense_fragments(np.ascontiguousarray(fragments[inside])),
        offsets=offsets, read_roi=roi, write_roi=roi, with_bins=True,
    )  # fmt: skip
    assert (rows_of(one[0]), rows_of(one[1])) == (expected_edges, expected_bins)
    per_edge = defaultdict(int)
    for u, v, _, count in rows_of(bins):
        per_edge[u, v] += count
    assert per_edge == {(u, v): count for u, v, count, *_ in rows_of(edges)}


def test_input_arrays_do_not_change() -> None:
    affinities, fragments = random_volume(1, triple((4, 5, 6)), 5, 3)
    before = affinities.copy(), fragments.copy()
    whole_edges(affinities, fragments, DOWN)
    np.testing.assert_array_equal(affinities, before[0])
    np.testing.assert_array_equal(fragments, before[1])

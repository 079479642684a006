"""Merging in groups of blocks: by hand in a row of fragments, and compared with the tree of the whole volume."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from neuroseg.agglomeration.block_groups import COLUMNS, closed_fragments, group_lattices, inner_box, merged_edges
from neuroseg.agglomeration.evidence import with_evidence
from neuroseg.agglomeration.region_rows import in_memory
from neuroseg.agglomeration.scorings import Scoring, parse_scoring
from neuroseg.agglomeration.tree import merge_tree
from neuroseg.blocks import Block, Lattice, whole_lattice
from neuroseg.edges.contacts import block_edges
from neuroseg.edges.dense import dense_fragments
from neuroseg.edges.nodes import block_nodes
from neuroseg.geometry import Box, Triple, contact_channels, grown, long_range_channels, reach_of, slices, triple
from neuroseg.tables import BINS, EDGES, NODES, TABLES, TREE, Table, combined, concatenated, empty

Tables = dict[str, Table]

pytestmark = pytest.mark.usefixtures("kernels")
SCORINGS = ["mean", "quantile:50", "quantile:50:all", "quantile:25", "quantile:75:all"]
DOWN: tuple[Triple, ...] = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
UP_AND_FAR: tuple[Triple, ...] = ((1, 0, 0), (0, -1, 0), (0, 0, 1), (-3, 0, 0), (0, 2, 2))


def tables_of_block(
    affinities: NDArray[np.uint8], fragments: NDArray[np.uint64], offsets: Sequence[Triple], block: Block
) -> Tables:
    """The tables that the stage `edges` writes for a block."""
    around = grown(block.write_roi, reach_of(offsets), block.read_roi)
    dense, links = dense_fragments(fragments[slices(around)]), affinities[(slice(None), *slices(block.write_roi))]
    tables = {name: empty(columns) for name, columns in COLUMNS.items()}
    for channels, edges, bins in (
        (contact_channels(offsets), "edges", "bins"),
        (long_range_channels(offsets), "long_range", "long_range_bins"),
    ):
        if not channels:
            continue
        tables[edges], tables[bins] = block_edges(
            links, dense, offsets=tuple(offsets), read_roi=around, write_roi=block.write_roi, channels=channels,
            with_bins=True,
        )  # fmt: skip
    tables["nodes"] = block_nodes(dense_fragments(fragments[slices(block.write_roi)]), triple(block.write_roi.begin))
    return tables


def merged_group(parts: Sequence[Tables], inner: Box | None, scoring: Scoring) -> tuple[Table, Table, Tables]:
    """The merges of a group, its closed fragments, and what is left."""
    nodes, open_nodes = closed_fragments([part["nodes"] for part in parts], inner)
    tree, left = merged_edges(lambda name: in_memory([part[name] for part in parts]), nodes["fragment"], scoring)
    return tree, nodes, {**left, "nodes": open_nodes}


def merged_in_levels(
    parts: dict[int, Tables],
    blocks: Lattice,
    lattices: Sequence[Lattice],
    offsets: Sequence[Triple],
    scoring: Scoring,
) -> tuple[Table, Table, list[int]]:
    """The tree and the nodes of all groups, sorted, and the number of merges of each level."""
    trees, nodes, counts = [], [], []
    below = blocks
    for lattice in lattices:
        left, count = {}, 0
        for group in lattice.blocks():
            held = [parts[index] for index in below.indices_touching(group.write_roi) if index in parts]
            tree, closed, left[group.index] = merged_group(held, inner_box(group, lattice, offsets), scoring)
            assert (np.diff(tree["score"]) >= 0).all()
            trees.append(tree)
            nodes.append(closed)
            count += len(tree["a"])
        counts.append(count)
        parts, below = left, lattice
    (last,) = parts.values()
    assert all(not len(column) for name in COLUMNS for column in last[name].values()), "nothing is left"
    rows = concatenated(trees, TREE)
    order = np.lexsort((rows["v"], rows["u"], rows["score"]))
    return {name: column[order] for name, column in rows.items()}, combined(nodes, NODES), counts


def whole_tree(parts: Sequence[Tables], scoring: Scoring) -> Table:
    """The tree of all blocks in one step."""
    tables = {name: combined([part[name] for part in parts], columns) for name, columns in TABLES.items()}
    contacts = tables["edges"]
    edges = with_evidence(contacts, tables["long_range"], contacts, EDGES)
    return merge_tree(edges, with_evidence(tables["bins"], tables["long_range_bins"], contacts, BINS), scoring)


def nearest_fragments(rng: np.random.Generator, shape: Triple, count: int) -> NDArray[np.uint64]:
    """Each voxel belongs to the nearest of `count` random points, or to none: a tenth is background.

    A fragment is named by one of its voxels. Parts that background cuts off are background, too.
    """
    from scipy.ndimage import label

    points = rng.random((count, 3)) * shape
    voxels = np.moveaxis(np.indices(shape), 0, -1)[..., None, :]
    nearest = ((voxels - points) ** 2).sum(-1).argmin(-1) + 1
    nearest[rng.random(shape) < 0.1] = 0
    out = np.zeros(shape, np.uint64)
    for fragment in range(1, count + 1):
        components, number = label(nearest == fragment, np.ones((3, 3, 3)))
        if number:
            of_it = components == rng.integers(1, number + 1)
            out[of_it] = rng.choice(np.flatnonzero(of_it)) + 1
    return out


def blockwise(
    seed: int, shape: Triple, block: Triple, offsets: Sequence[Triple], count: int = 60
) -> tuple[Lattice, dict[int, Tables]]:
    """The tables of all blocks of a random volume with many ties."""
    rng = np.random.default_rng(seed)
    fragments = nearest_fragments(rng, shape, count)
    affinities = rng.choice([0, 3, 128, 254, 255], (len(offsets), *shape)).astype(np.uint8)
    blocks = whole_lattice(shape, block)
    reach = reach_of(offsets)
    return blocks, {b.index: tables_of_block(affinities, fragments, offsets, b) for b in blocks.blocks(reach)}


def lattices_from(blocks: Lattice, factor: int) -> list[Lattice]:
    """Lattices of groups whose widths double, the smallest with `factor` blocks along each axis."""
    lattices: list[Lattice] = []
    while not lattices or len(lattices[-1].indices()) > 1:
        shape = triple([width * factor for width in blocks.block_shape])
        lattices.append(Lattice(blocks.volume_shape, shape, blocks.roi))
        factor *= 2
    return lattices


@pytest.mark.parametrize("name", SCORINGS)
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 9), st.integers(4, 14), st.integers(4, 16)),
    block=st.tuples(st.integers(2, 5), st.integers(2, 5), st.integers(2, 5)),
    factor=st.integers(1, 2),
    offsets=st.sampled_from([DOWN, UP_AND_FAR]),
)
def test_groups_give_the_tree_of_the_whole_volume(
    name: str, seed: int, shape: Triple, block: Triple, factor: int, offsets: tuple[Triple, ...]
) -> None:
    blocks, parts = blockwise(seed, shape, block, offsets, count=30)
    scoring = parse_scoring(name)
    tree, nodes, _ = merged_in_levels(parts, blocks, lattices_from(blocks, factor), offsets, scoring)
    expected = whole_tree(list(parts.values()), scoring)
    for column in TREE:
        np.testing.assert_array_equal(tree[column], expected[column], err_msg=column)
    every = combined([part["nodes"] for part in parts.values()], NODES)
    for column in NODES:
        np.testing.assert_array_equal(nodes[column], every[column], err_msg=column)


@pytest.mark.parametrize("name", SCORINGS)
@pytest.mark.parametrize("offsets", [DOWN, UP_AND_FAR])
def test_small_groups_merge_much_before_the_last_one(name: str, offsets: tuple[Triple, ...]) -> None:
    blocks, parts = blockwise(3, (24, 24, 24), (6, 6, 6), offsets, count=900)
    scoring = parse_scoring(name)
    tree, _, counts = merged_in_levels(parts, blocks, lattices_from(blocks, 2), offsets, scoring)
    expected = whole_tree(list(parts.values()), scoring)
    for column in TREE:
        np.testing.assert_array_equal(tree[column], expected[column], err_msg=column)
    assert len(counts) == 2
    assert counts[0] > 10


def row_of_fragments(means: Sequence[int], width: int = 4) -> tuple[NDArray[np.uint8], NDArray[np.uint64]]:
    """Fragments of `width` voxels in a row along x, and the affinities between them."""
    count = len(means) + 1
    fragments = np.repeat(np.arange(count, dtype=np.uint64) * np.uint64(width) + np.uint64(1), width)[None, None]
    affinities = np.zeros((3, *fragments.shape), np.uint8)
    for number, mean in enumerate(means, start=1):
        affinities[2, 0, 0, number * width] = mean
    return affinities, fragments


def test_a_region_waits_for_an_open_neighbour_that_it_likes_best() -> None:
    # Fragments 1, 5, 9 | 13, 17, 21 in two groups. 9 and 13 touch the face between them, so they are open.
    affinities, fragments = row_of_fragments([250, 200, 100, 90, 240])
    blocks = whole_lattice(triple(fragments.shape), (1, 1, 12))
    parts = [tables_of_block(affinities, fragments, DOWN, block) for block in blocks.blocks((1, 1, 1))]
    boxes = [inner_box(block, blocks, DOWN) for block in blocks.blocks()]
    assert boxes == [((0, 1), (0, 1), (0, 11)), ((0, 1), (0, 1), (13, 24))]
    tree, closed, left = merged_group(parts[:1], boxes[0], parse_scoring("mean"))
    assert list(zip(tree["a"].tolist(), tree["b"].tolist(), strict=True)) == [(1, 5)]
    assert closed["fragment"].tolist() == [1, 5]
    assert left["nodes"]["fragment"].tolist() == [9]
    names = ("a", "b", "b_is_closed", "u", "v", "link_u", "link_v", "link_sum", "contact_count")
    assert {name: left["regions"][name].tolist() for name in names} == {
        "a": [1], "b": [9], "b_is_closed": [0], "u": [5], "v": [9], "link_u": [5], "link_v": [9], "link_sum": [200],
        "contact_count": [1],
    }  # fmt: skip
    # The pair of 9 and 13 belongs to the block of 13. In it, 9 has no voxel.
    tree, closed, left = merged_group(parts[1:], boxes[1], parse_scoring("mean"))
    assert list(zip(tree["a"].tolist(), tree["b"].tolist(), strict=True)) == [(17, 21)]
    assert closed["fragment"].tolist() == [17, 21]
    assert (left["edges"]["u"].tolist(), left["edges"]["v"].tolist()) == ([9], [13])
    assert left["nodes"]["fragment"].tolist() == [13]


def test_regions_that_wait_make_their_neighbours_wait() -> None:
    # 1 - 5 is worse than 5 - 9, which is worse than 9 - 13, and 13 is open: nothing may merge.
    affinities, fragments = row_of_fragments([100, 150, 200])
    blocks = whole_lattice((1, 1, 24), (1, 1, 16))
    part = tables_of_block(affinities, fragments, DOWN, blocks.block(0))
    tree, closed, left = merged_group([part], ((0, 1), (0, 1), (0, 15)), parse_scoring("mean"))
    assert not len(tree["a"])
    assert closed["fragment"].tolist() == [1, 5, 9]
    assert left["regions"]["a"].tolist() == [1, 5, 9]
    assert left["regions"]["b"].tolist() == [5, 9, 13]
    assert left["regions"]["b_is_closed"].tolist() == [1, 1, 0]


@pytest.mark.parametrize("name", SCORINGS)
def test_a_group_without_parts_is_empty(name: str) -> None:
    tree, nodes, left = merged_group([], None, parse_scoring(name))
    assert {column: values.dtype for column, values in tree.items()} == {n: np.dtype(d) for n, d in TREE.items()}
    assert not any(len(column) for table in (tree, nodes, left["regions"], left["edges"]) for column in table.values())


@pytest.mark.parametrize("name", SCORINGS)
def test_what_is_left_has_the_columns_of_its_tables(name: str) -> None:
    blocks, parts = blockwise(1, (12, 12, 12), (6, 12, 12), UP_AND_FAR, count=80)
    block = blocks.block(0)
    _, _, left = merged_group([parts[0]], inner_box(block, blocks, UP_AND_FAR), parse_scoring(name))
    for table, columns in COLUMNS.items():
        found = {column: values.dtype for column, values in left[table].items()}
        assert found == {column: np.dtype(dtype) for column, dtype in columns.items()}, table
    assert len(left["regions"]["a"]) > 20
    assert (len(left["region_bins"]["u"]) > 20) == (name != "mean")


@pytest.mark.parametrize(
    ("offsets", "expected"),
    [
        (DOWN, ((1, 511), (0, 511), (513, 1000))),
        (UP_AND_FAR, ((1, 509), (0, 511), (514, 1000))),
    ],
)
def test_inner_box_by_hand(offsets: tuple[Triple, ...], expected: object) -> None:
    # Along z, the region begins in the volume: its border is no inner face, but here the group begins after it.
    lattice = Lattice((1024, 1024, 1000), (512, 512, 512), whole_lattice((1024, 1024, 1000), (512, 512, 512)).roi)
    group = lattice.block(lattice.index_of((0, 0, 1)))
    box = inner_box(group, lattice, offsets)
    assert box is not None
    assert (box[0], box[1], box[2]) == ((0, expected[0][1]), (0, expected[1][1]), expected[2])  # type: ignore[index]


@pytest.mark.parametrize(
    ("shape", "block", "expected"),
    [
        ((250, 250, 250), (128, 128, 128), [(512, 512, 512)]),
        ((1850, 12895, 10747), (256, 256, 256), [(512 << n,) * 3 for n in range(6)]),
        ((30, 2000, 512), (30, 300, 700), [(960, 600, 700), (1920, 1200, 1400), (3840, 2400, 2800)]),
    ],
)
def test_lattices_of_groups(shape: Triple, block: Triple, expected: list[Triple]) -> None:
    lattices = group_lattices(whole_lattice(shape, block))
    assert [lattice.block_shape for lattice in lattices] == expected
    assert len(lattices[-1].indices()) == 1


def test_groups_without_a_block_in_the_mask_are_left_out() -> None:
    blocks = whole_lattice((10, 10, 2048), (10, 10, 256))
    masked = Lattice(blocks.volume_shape, blocks.block_shape, blocks.roi, first_along_x)
    assert [lattice.indices() for lattice in group_lattices(masked)] == [[0], [0], [0]]
    assert [lattice.indices() for lattice in group_lattices(blocks)] == [[0, 1, 2, 3], [0, 1], [0]]


def first_along_x(z: NDArray[np.int64], y: NDArray[np.int64], x: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which cells begin before voxel 256 along x, as a mask tells it."""
    inside = x[:, 0] < 256
    return np.broadcast_to(inside, (len(z), len(y), len(x)))

"""The lattice of blocks: its faces and its indices."""

from __future__ import annotations

import numpy as np
import pytest
from funlib.geometry import Roi
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroseg.blocks import Block, Lattice, indices_of, voxels_of, whole_lattice
from neuroseg.geometry import slices, whole


def test_counts_round_up_to_slivers() -> None:
    assert whole_lattice((4, 5, 6), (4, 4, 4)).counts == (1, 2, 2)


def test_indices_count_row_major() -> None:
    lattice = whole_lattice((4, 4, 6), (2, 2, 2))
    assert lattice.indices() == list(range(12))
    assert [lattice.index_of(cell) for cell in [(0, 0, 2), (0, 1, 0), (1, 0, 0), (1, 1, 2)]] == [2, 3, 6, 11]


def test_the_last_block_is_a_sliver_inside_the_volume() -> None:
    block = whole_lattice((4, 5, 6), (4, 4, 4)).block(3, halo=(1, 2, 3))
    assert block == Block(3, ((0, 4), (4, 5), (4, 6)), ((0, 4), (2, 5), (1, 6)))
    assert (block.write_roi, block.read_roi) == (Roi((0, 4, 4), (4, 1, 2)), Roi((0, 2, 1), (4, 3, 5)))
    assert block.voxels == 8


def test_faces_lie_at_multiples_from_the_origin_wherever_the_roi_begins() -> None:
    lattice = Lattice((100, 100, 100), (10, 20, 30), Roi((15, 15, 15), (10, 10, 20)))
    found = [(b.index, tuple(b.write_roi.begin), tuple(b.write_roi.end)) for b in lattice.blocks()]
    # 10 x 5 x 4 blocks: index = (z * 5 + y) * 4 + x
    assert found == [
        (20, (15, 15, 15), (20, 20, 30)),
        (21, (15, 15, 30), (20, 20, 35)),
        (24, (15, 20, 15), (20, 25, 30)),
        (25, (15, 20, 30), (20, 25, 35)),
        (40, (20, 15, 15), (25, 20, 30)),
        (41, (20, 15, 30), (25, 20, 35)),
        (44, (20, 20, 15), (25, 25, 30)),
        (45, (20, 20, 30), (25, 25, 35)),
    ]


def test_halo_is_clipped_to_the_roi_not_to_the_volume() -> None:
    lattice = Lattice((100, 100, 100), (10, 10, 10), Roi((5, 5, 5), (30, 30, 30)))
    block = lattice.block(lattice.index_of((0, 1, 3)), halo=(2, 2, 2))
    assert block.write_roi == Roi((5, 10, 30), (5, 10, 5))
    assert block.read_roi == Roi((5, 8, 28), (7, 14, 7))


def test_an_empty_region_touches_no_block() -> None:
    assert whole_lattice((8, 8, 8), (4, 4, 4)).indices_touching(Roi((0, 0, 0), (0, 4, 4))) == []


def test_touching_means_sharing_a_voxel_not_a_face() -> None:
    assert whole_lattice((8, 8, 8), (4, 4, 4)).indices_touching(Roi((0, 0, 4), (4, 4, 4))) == [1]


shapes = st.tuples(*[st.integers(1, 12)] * 3)


@st.composite
def cut_volumes(draw: st.DrawFn) -> tuple[tuple[int, int, int], tuple[int, int, int], Roi]:
    """A volume's shape, a block shape, a region inside the volume."""
    shape, block = draw(shapes), draw(shapes)
    begin = [draw(st.integers(0, size - 1)) for size in shape]
    extent = [draw(st.integers(1, size - b)) for size, b in zip(shape, begin, strict=True)]
    return shape, block, Roi(begin, extent)


@settings(max_examples=60)
@given(cut_volumes())
def test_every_voxel_of_the_roi_is_written_by_exactly_one_block(
    cut: tuple[tuple[int, int, int], tuple[int, int, int], Roi],
) -> None:
    shape, block_shape, roi = cut
    written = np.zeros(shape, int)
    lattice = Lattice(shape, block_shape, roi)
    for block in lattice.blocks():
        assert not block.write_roi.empty
        written[slices(block.write_roi)] += 1
    assert (written[slices(roi)] == 1).all()
    assert written.sum() == roi.size
    assert lattice.indices() == sorted(set(lattice.indices()))


@settings(max_examples=60)
@given(cut_volumes())
def test_indices_and_faces_stay_when_the_roi_grows(
    cut: tuple[tuple[int, int, int], tuple[int, int, int], Roi],
) -> None:
    shape, block_shape, roi = cut
    small, large = Lattice(shape, block_shape, roi), Lattice(shape, block_shape, whole(shape))
    assert set(small.indices()) <= set(large.indices())
    for block in small.blocks():
        assert block.write_roi == large.block(block.index).write_roi.intersect(roi)


def test_blocks_are_created_when_they_are_asked_for() -> None:
    blocks = whole_lattice((4, 5, 6), (4, 4, 4)).blocks((1, 2, 3))
    assert len(blocks) == 4
    assert blocks[3] == blocks[-1] == Block(3, ((0, 4), (4, 5), (4, 6)), ((0, 4), (2, 5), (1, 6)))
    assert [block.index for block in blocks[1:3]] == [1, 2]
    assert blocks.where(np.array([True, False, False, True])) == [blocks[0], blocks[3]]
    assert blocks != [blocks[0]]
    with pytest.raises(IndexError):
        blocks[4]


def test_unwanted_blocks_are_omitted() -> None:
    asked = []

    def wanted(z: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        asked.append((z.tolist(), y.tolist(), x.tolist()))
        return np.array([[[True, False, True]], [[False, False, True]]])

    lattice = Lattice((8, 4, 10), (4, 4, 4), Roi((0, 0, 2), (8, 4, 8)), wanted)
    assert lattice.indices() == [0, 2, 5]
    assert (lattice.touching, len(lattice.blocks())) == (6, 3)
    assert asked == [([[0, 4], [4, 8]], [[0, 4]], [[2, 4], [4, 8], [8, 10]])], "once, clipped to the region"


@settings(max_examples=60)
@given(cut_volumes(), st.tuples(*[st.integers(0, 3)] * 3))
def test_faces_of_many_blocks_are_those_of_each(
    cut: tuple[tuple[int, int, int], tuple[int, int, int], Roi], halo: tuple[int, int, int]
) -> None:
    lattice = Lattice(*cut)
    blocks = lattice.blocks(halo)
    for axis in range(3):
        places, faces = blocks.along(axis)
        found = [tuple(faces[place]) for place in places]
        assert found == [(*block.write_box[axis], *block.read_box[axis]) for block in blocks]
    assert voxels_of(blocks) == voxels_of(list(blocks)) == lattice.roi.size
    assert indices_of(blocks).tolist() == indices_of(list(blocks)).tolist() == lattice.indices()
    assert lattice.touching == len(blocks)

"""Sums over blocks equal those of the listed blocks, and do not depend on the number of blocks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from funlib.geometry import Roi
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from neuroseg.blocks import Lattice, Numbers, whole_lattice
from neuroseg.geometry import whole
from neuroseg.runs.block_sums import (
    block_count,
    inside_mask,
    largest,
    read_length,
    spread_blocks,
    summed,
    voxel_count,
)

HUGE = whole_lattice((100_000,) * 3, (128,) * 3)  # 10^15 voxels


def test_a_region_of_two_blocks_by_hand() -> None:
    # along x:  |0 ... 4 ... 8|, region 2:7 -> blocks 2:4 and 4:7, with a halo of 3: they read 2:7 and 2:7
    lattice = Lattice((4, 4, 8), (4, 4, 4), Roi((0, 0, 2), (4, 4, 5)))
    assert block_count(lattice) == 2
    assert voxel_count(lattice) == 4 * 4 * 5
    assert summed(lattice, read_length(lattice, (0, 0, 3))) == 4 * 4 * (5 + 5)
    assert summed(lattice, read_length(lattice, (0, 0, 1))) == 4 * 4 * (3 + 4)
    assert largest(lattice, read_length(lattice, (0, 0, 1))) == 4 * 4 * 4


@given(
    st.tuples(*[st.integers(1, 20)] * 3), st.tuples(*[st.integers(1, 9)] * 3), st.tuples(*[st.integers(0, 5)] * 3),
    st.data(),
)  # fmt: skip
def test_sums_equal_those_of_the_listed_blocks(
    shape: tuple[int, int, int], block: tuple[int, int, int], halo: tuple[int, int, int], data: st.DataObject
) -> None:
    begin = [data.draw(st.integers(0, size - 1)) for size in shape]
    roi = Roi(begin, [data.draw(st.integers(1, size - at)) for size, at in zip(shape, begin, strict=True)])
    lattice = Lattice(shape, block, roi)
    blocks, length = list(lattice.blocks(halo)), read_length(lattice, halo)
    assert block_count(lattice) == len(blocks)
    assert voxel_count(lattice) == sum(each.voxels for each in blocks)
    assert summed(lattice, length) == sum(each.read_roi.size for each in blocks)
    assert largest(lattice, length) >= max(each.read_roi.size for each in blocks)
    assert {each.index for each in spread_blocks(lattice, 4)} <= {each.index for each in blocks}
    assert len(spread_blocks(lattice, 4)) == min(4, len(blocks))


def test_the_share_inside_a_mask_counts_blocks_and_voxels() -> None:
    # Blocks along x: 0:4 and 4:6. Only the second one is inside.
    lattice = Lattice(
        (4, 4, 6), (4, 4, 4), whole((4, 4, 6)), lambda z, y, x: np.broadcast_to(x[:, 0] == 4, (len(z), len(y), len(x)))
    )
    inside = inside_mask(lattice)
    assert inside.blocks == pytest.approx(1 / 2)
    assert inside.voxels == pytest.approx(2 / 6)
    assert [block.index for block in spread_blocks(lattice, 3)] == [1]


def test_blocks_are_spread_from_the_middle() -> None:
    found = [block.index for block in spread_blocks(whole_lattice((1, 1, 30), (1, 1, 1)), 3)]
    assert found[0] == 15
    assert min(abs(a - b) for a in found for b in found if a != b) >= 5


def test_a_huge_lattice_is_not_listed() -> None:
    assert block_count(HUGE) == math.ceil(100_000 / 128) ** 3
    assert voxel_count(HUGE) == 10**15
    asked = []

    def left_half(z: Numbers, y: Numbers, x: Numbers) -> NDArray[np.bool_]:
        asked.append(x)
        return np.broadcast_to(x[:, 0] < 50_000, (len(z), len(y), len(x)))

    masked = Lattice(HUGE.volume_shape, HUGE.block_shape, HUGE.roi, left_half)
    assert inside_mask(masked).voxels == pytest.approx(0.5, abs=0.06)
    assert all(block.write_roi.begin[2] < 50_000 for block in spread_blocks(masked, 3))
    assert len(asked) <= 2 * 1024


def test_a_mask_without_voxels_leaves_no_block() -> None:
    lattice = Lattice((8, 8, 8), (4, 4, 4), whole((8, 8, 8)), lambda z, y, x: np.zeros((len(z), len(y), len(x)), bool))
    assert spread_blocks(lattice, 3) == []
    assert inside_mask(lattice).voxels == 0

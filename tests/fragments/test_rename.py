"""Following exits through entry tables replaces provisional names by final ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from neuroseg.blocks import whole_lattice
from neuroseg.edges.rename import final_names, owner_blocks
from neuroseg.fragments.settings import BasinSettings

LATTICE = whole_lattice((1, 1, 12), (1, 1, 3))  # blocks of voxels 0-2, 3-5, 6-8, 9-11: names 1-3, 4-6, 7-9, 10-12


def ids(*values: int) -> np.ndarray:
    """Names."""
    return np.array(values, np.uint64)


NOTHING = (ids(), ids())


def test_a_names_owner_is_the_block_that_writes_its_voxel() -> None:
    assert owner_blocks(ids(1, 3, 4, 9, 10, 12), LATTICE).tolist() == [0, 0, 1, 2, 3, 3]
    lattice = whole_lattice((4, 5, 6), (2, 3, 4))
    voxel = (3 * 5 + 4) * 6 + 5
    assert owner_blocks(ids(voxel + 1), lattice).tolist() == [lattice.index_of((1, 1, 1))]


def test_an_exit_is_followed_through_every_block_to_the_root() -> None:
    # 12 -> 9 -> 6 -> 3 -> 1: each block knows only its own part.
    tables = {0: (ids(3), ids(1)), 1: (ids(6), ids(3)), 2: (ids(9), ids(6)), 3: NOTHING}
    assert final_names(ids(9, 12), LATTICE, tables.__getitem__).tolist() == [1, 12]


def test_a_path_may_return_to_a_block() -> None:
    tables = {0: (ids(2, 3), ids(4, 1)), 1: (ids(4, 6), ids(3, 2))}
    # 6 in block 1 -> 2 in block 0 -> 4 in block 1 -> 3 in block 0 -> root 1
    assert final_names(ids(6), LATTICE, tables.__getitem__).tolist() == [1]


def test_a_root_in_the_entry_table_maps_to_itself() -> None:
    tables = {0: NOTHING, 1: (ids(4, 6), ids(4, 4))}
    assert final_names(ids(4, 5, 6), LATTICE, tables.__getitem__).tolist() == [4, 5, 4]


def test_zero_stays_zero() -> None:
    def no_table(block: int) -> tuple[np.ndarray, np.ndarray]:
        pytest.fail(f"read the table of block {block}")

    assert final_names(ids(0), LATTICE, no_table).tolist() == [0]
    assert final_names(ids(), LATTICE, no_table).tolist() == []


def test_a_name_that_is_not_in_the_table_stays() -> None:
    tables = {1: (ids(5), ids(4)), 2: NOTHING}
    assert final_names(ids(4, 6, 8), LATTICE, tables.__getitem__).tolist() == [4, 6, 8]


def test_the_input_array_does_not_change() -> None:
    names = ids(4)
    assert final_names(names, LATTICE, {1: (ids(4), ids(5))}.__getitem__).tolist() == [5]
    assert names.tolist() == [4]


@pytest.mark.parametrize("seed", range(4))
def test_renaming_twice_changes_nothing(blocks_of: Callable, seed: int) -> None:
    affinities = np.random.default_rng(seed).integers(0, 256, (3, 6, 20, 20)).astype(np.uint8)
    lattice = whole_lattice((6, 20, 20), (4, 6, 5))
    made = blocks_of(affinities, lattice, BasinSettings((10.0, 10.0, 10.0), reach=3))
    followed = 0
    for index in made:
        names = np.unique(made[index][1].names)

        def entries_of(block: int) -> tuple[np.ndarray, np.ndarray]:
            return made[block][1].entry_voxels, made[block][1].entry_names

        once = final_names(names, lattice, entries_of)
        followed += int((once != names).sum())
        np.testing.assert_array_equal(final_names(once, lattice, entries_of), once)
    assert followed > 0


def test_entry_tables_list_each_entered_voxel_once_ascending(blocks_of: Callable) -> None:
    # A row of one plateau: every voxel points to x - 1, so each block is entered at its last voxel from the right.
    affinities = np.full((3, 1, 1, 12), 255, np.uint8)
    made = blocks_of(affinities, LATTICE, BasinSettings((10.0, 10.0, 10.0), reach=2, sigma=0, ripple=0))
    found = {i: (made[i][1].entry_voxels.tolist(), made[i][1].entry_names.tolist()) for i in made}
    assert found == {0: ([3], [1]), 1: ([6], [3]), 2: ([9], [6]), 3: ([], [])}
    affinities = np.random.default_rng(0).integers(0, 256, (3, 6, 20, 20)).astype(np.uint8)
    lattice = whole_lattice((6, 20, 20), (4, 6, 5))
    for index, (_, block) in blocks_of(affinities, lattice, BasinSettings((10.0, 10.0, 10.0), reach=3)).items():
        assert (np.diff(block.entry_voxels.astype(np.int64)) > 0).all()
        assert (owner_blocks(block.entry_voxels, lattice) == index).all()

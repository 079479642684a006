"""Provisional names -> roots' names, by following exits through the entry tables of the blocks they lead to."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from neuroseg.blocks import Lattice

Entries = tuple[NDArray[np.uint64], NDArray[np.uint64]]


def final_names(
    names: NDArray[np.uint64], lattice: Lattice, entries_of: Callable[[int], Entries]
) -> NDArray[np.uint64]:
    """Return the root's name for each of `names`, provisional or not.

    `entries_of(block)` returns that block's entry table, voxels ascending. A root that was entered leads to itself in
    the table of its block, and one that was not is not listed and stays: renaming is idempotent. So does 0, no
    fragment.
    """
    current = names.copy()
    owners = owner_blocks(current, lattice)
    open_ = np.flatnonzero(names > 0)
    while len(open_):
        moved = []
        for block in np.unique(owners[open_]):
            rows = open_[owners[open_] == block]
            voxels, entered = entries_of(int(block))
            at = np.minimum(np.searchsorted(voxels, current[rows]), max(len(voxels) - 1, 0))
            found = voxels[at] == current[rows] if len(voxels) else np.zeros(len(rows), bool)
            rows, at = rows[found], at[found]
            current[rows] = entered[at]
            moved.append(rows)
        changed = np.concatenate(moved)
        previous = owners[changed]
        owners[changed] = owner_blocks(current[changed], lattice)
        # A voxel whose name lies in the block that just answered is a root there.
        open_ = changed[owners[changed] != previous]
    return current


def owner_blocks(names: NDArray[np.uint64], lattice: Lattice) -> NDArray[np.int64]:
    """Return the index of the block that writes the voxel each name stands for."""
    voxels = names.astype(np.int64) - 1
    _, height, width = lattice.volume_shape
    coordinates = (voxels // (height * width), voxels // width % height, voxels % width)
    cells = [c // size for c, size in zip(coordinates, lattice.block_shape, strict=True)]
    counts = lattice.counts
    indices: NDArray[np.int64] = (cells[0] * counts[1] + cells[1]) * counts[2] + cells[2]
    return indices

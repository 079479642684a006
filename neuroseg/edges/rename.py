"""Provisional names -> names of roots, by following exits through the entry tables of other blocks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from neuroseg.blocks import Lattice

Entries = tuple[NDArray[np.uint64], NDArray[np.uint64]]


def final_names(
    names: NDArray[np.uint64], lattice: Lattice, entries_of: Callable[[int], Entries]
) -> NDArray[np.uint64]:
    """Return the name of the root for each of `names`, whether provisional or final.

    `entries_of(block)` returns the entry table of a block, by ascending voxel. Final names do not change, since a root
    maps to itself or is not in the table. 0 stays 0.
    """
    current = names.copy()
    owners = owner_blocks(current, lattice)
    unresolved = np.flatnonzero(names > 0)
    while len(unresolved):
        moved = []
        for block in np.unique(owners[unresolved]):
            rows = unresolved[owners[unresolved] == block]
            voxels, entered = entries_of(int(block))
            at = np.minimum(np.searchsorted(voxels, current[rows]), max(len(voxels) - 1, 0))
            found = voxels[at] == current[rows] if len(voxels) else np.zeros(len(rows), bool)
            rows, at = rows[found], at[found]
            current[rows] = entered[at]
            moved.append(rows)
        changed = np.concatenate(moved)
        previous = owners[changed]
        owners[changed] = owner_blocks(current[changed], lattice)
        # If the new name is in the same block, it is a root.
        unresolved = changed[owners[changed] != previous]
    return current


def owner_blocks(names: NDArray[np.uint64], lattice: Lattice) -> NDArray[np.int64]:
    """Return the index of the block that writes the voxel of each name."""
    voxels = names.astype(np.int64) - 1
    _, height, width = lattice.volume_shape
    coordinates = (voxels // (height * width), voxels // width % height, voxels % width)
    cells = [c // size for c, size in zip(coordinates, lattice.block_shape, strict=True)]
    counts = lattice.counts
    indices: NDArray[np.int64] = (cells[0] * counts[1] + cells[1]) * counts[2] + cells[2]
    return indices

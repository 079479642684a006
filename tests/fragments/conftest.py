"""Fixtures that compute fragments block by block in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.blocks import Block, Lattice
from neuroseg.edges.rename import final_names
from neuroseg.fragments.basins import BlockFragments, block_fragments
from neuroseg.fragments.settings import BasinSettings
from neuroseg.geometry import Triple, slices, triple, whole

OFFSETS: tuple[Triple, ...] = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))


def made_blocks(
    affinities: NDArray[np.uint8],
    lattice: Lattice,
    settings: BasinSettings,
    *,
    halo: Sequence[int] | None = None,
    offsets: tuple[Triple, ...] = OFFSETS,
    mask: NDArray[np.bool_] | None = None,
) -> dict[int, tuple[Block, BlockFragments]]:
    """Return the fragments of every block, each from its crop of `affinities` `(c, z, y, x)` of the whole volume."""
    made = {}
    for block in lattice.blocks(settings.halo_voxels if halo is None else halo):
        crop = np.ascontiguousarray(affinities[(slice(None), *slices(block.read_roi))])
        found = block_fragments(
            crop,
            offsets=offsets,
            read_roi=block.read_roi,
            write_roi=block.write_roi,
            bounds=lattice.roi,
            volume_shape=lattice.volume_shape,
            settings=settings,
            mask=None if mask is None else mask[slices(block.read_roi)],
        )
        made[block.index] = (block, found)
    return made


def renamed(made: dict[int, tuple[Block, BlockFragments]], lattice: Lattice) -> NDArray[np.uint64]:
    """Return the final names `(z, y, x)` of the whole volume, 0 outside the region of interest."""
    out = np.zeros(lattice.volume_shape, np.uint64)
    for block, found in made.values():
        names, rows = np.unique(found.names, return_inverse=True)
        final = final_names(names, lattice, lambda i: (made[i][1].entry_voxels, made[i][1].entry_names))
        out[slices(block.write_roi)] = final[rows].reshape(found.names.shape)
    return out


def blockwise(
    affinities: NDArray[np.uint8],
    block_shape: Sequence[int] | None,
    settings: BasinSettings,
    *,
    roi: Roi | None = None,
    halo: Sequence[int] | None = None,
    offsets: tuple[Triple, ...] = OFFSETS,
    mask: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint64]:
    """Return the final fragments `(z, y, x)` of a volume, computed in blocks. None: one block."""
    shape = triple(affinities.shape[1:])
    lattice = Lattice(shape, shape if block_shape is None else triple(block_shape), roi or whole(shape))
    return renamed(made_blocks(affinities, lattice, settings, halo=halo, offsets=offsets, mask=mask), lattice)


@pytest.fixture(scope="session")
def fragments_of() -> Callable[..., NDArray[np.uint64]]:
    """`blockwise`."""
    return blockwise


@pytest.fixture(scope="session")
def blocks_of() -> Callable[..., dict[int, tuple[Block, BlockFragments]]]:
    """`made_blocks`."""
    return made_blocks

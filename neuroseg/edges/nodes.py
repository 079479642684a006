"""Fragments of one block -> its part of the node table."""

from __future__ import annotations

import numpy as np

from neuroseg.edges.dense import DenseFragments
from neuroseg.geometry import Triple
from neuroseg.kernels import compiled
from neuroseg.tables import NODES, Table, empty


def block_nodes(fragments: DenseFragments, origin: Triple) -> Table:
    """Return one row per fragment, by ascending id: number of voxels, sums and bounds of coordinates.

    `origin` is the global coordinate of the first voxel of `fragments` `(z, y, x)`. With global coordinates, rows of
    several blocks can be combined. 0 is background.
    """
    dense, ids = fragments
    columns = _statistics(dense, len(ids) - 1, np.array(origin, np.int64))
    present = np.flatnonzero(columns[0])
    if not len(present):
        return empty(NODES)
    order = present[np.argsort(ids[present])]
    columns = columns[:, order]
    table: Table = {"fragment": ids[order]}
    for column, name in enumerate(list(NODES)[1:]):
        table[name] = columns[column].astype(NODES[name])
    return table


@compiled
def _statistics(dense, count, origin):  # type: ignore[no-untyped-def]
    """Rows: voxels, sums of z y x, minima of z y x, maxima of z y x. One column per dense id."""
    out = np.zeros((10, count + 1), np.int64)
    out[4:7] = np.int64(1) << 62
    depth, height, width = dense.shape
    for z in range(depth):
        for y in range(height):
            begin = 0
            while begin < width:
                n, end = dense[z, y, begin], begin + 1
                while end < width and dense[z, y, end] == n:
                    end += 1
                if n:
                    _add_run(out[:, n], z + origin[0], y + origin[1], begin + origin[2], end + origin[2])
                begin = end
    return out


@compiled
def _add_run(column, z, y, begin, end):  # type: ignore[no-untyped-def]
    """Add the voxels (z, y, begin) to (z, y, end - 1) of one fragment."""
    count = end - begin
    column[0] += count
    column[1] += count * z
    column[2] += count * y
    column[3] += count * (begin + end - 1) // 2
    column[4], column[5], column[6] = min(column[4], z), min(column[5], y), min(column[6], begin)
    column[7], column[8], column[9] = max(column[7], z), max(column[8], y), max(column[9], end - 1)

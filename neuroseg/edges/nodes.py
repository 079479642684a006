"""Fragments of one block -> its part of the node table."""

from __future__ import annotations

import fastremap
import numba
import numpy as np
from numpy.typing import NDArray

from neuroseg.geometry import Triple
from neuroseg.tables import NODES, Table, empty


def block_nodes(fragments: NDArray[np.uint64], origin: Triple) -> Table:
    """Return one row per fragment in `fragments` `(z, y, x)`, ascending: voxels, sums and bounds of coordinates.

    `origin` is the global coordinate of the first voxel, so that rows of several blocks combine. 0 is no fragment.
    """
    ids = fastremap.unique(fragments)
    ids = ids[ids > 0]
    if not len(ids):
        return empty(NODES)
    dense, mapping = fastremap.renumber(fragments, preserve_zero=True, in_place=False)
    statistics = _statistics(dense.astype(np.uint32), len(ids), np.array(origin, np.int64))
    order = np.array([mapping[i] for i in ids.tolist()], np.int64)
    columns = statistics[:, order]
    table: Table = {"fragment": ids.astype(np.uint64)}
    for column, name in enumerate(list(NODES)[1:]):
        table[name] = columns[column].astype(NODES[name])
    return table


@numba.njit(cache=True, nogil=True)
def _statistics(dense, count, origin):  # type: ignore[no-untyped-def]
    """Rows: voxels, sums of z y x, least z y x, largest z y x; one column per dense id."""
    out = np.zeros((10, count + 1), np.int64)
    out[4:7] = np.int64(1) << 62
    depth, height, width = dense.shape
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                n = dense[z, y, x]
                if n == 0:
                    continue
                at = (z + origin[0], y + origin[1], x + origin[2])
                out[0, n] += 1
                for axis in range(3):
                    out[1 + axis, n] += at[axis]
                    out[4 + axis, n] = min(out[4 + axis, n], at[axis])
                    out[7 + axis, n] = max(out[7 + axis, n], at[axis])
    return out

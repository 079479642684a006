"""Tables: the columns that stages exchange, and how parts of a table combine.

A table is a dictionary of equally long numpy arrays. Parts combine only by addition, minimum and maximum. So the result
has the same bytes for any order of the parts and any block size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Table = dict[str, NDArray[Any]]
Allocate = Callable[[Any, Any], NDArray[Any]]
"""Returns an array for a shape and a dtype, with any values: np.empty, or in a file that is mapped into memory."""

EDGES: Mapping[str, type[np.generic]] = {
    "u": np.uint64,  # the smaller fragment id
    "v": np.uint64,  # the larger fragment id
    "contact_count": np.uint64,  # voxel pairs between the two fragments
    "affinity_sum": np.uint64,  # sum of their affinities, 0-255 each
    "affinity_max": np.uint8,  # largest of them
}
BINS: Mapping[str, type[np.generic]] = {"u": np.uint64, "v": np.uint64, "bin": np.uint8, "count": np.uint64}
NODES: Mapping[str, type[np.generic]] = {
    "fragment": np.uint64,
    "voxel_count": np.uint64,
    "sum_z": np.uint64,  # sums of voxel coordinates: divided by voxel_count, the fragment's centre
    "sum_y": np.uint64,
    "sum_x": np.uint64,
    "min_z": np.uint32,  # bounding box in voxels, maxima inclusive
    "min_y": np.uint32,
    "min_x": np.uint32,
    "max_z": np.uint32,
    "max_y": np.uint32,
    "max_x": np.uint32,
}
# Tables that the stage edges writes, one part per block.
TABLES: Mapping[str, Mapping[str, type[np.generic]]] = {
    "edges": EDGES, "bins": BINS, "long_range": EDGES, "long_range_bins": BINS, "nodes": NODES,
}  # fmt: skip
SECTIONS: Mapping[str, type[np.generic]] = {
    "section": np.uint32,  # z
    "value": np.uint8,  # of raw
    "count": np.uint64,  # voxels with this value
}
ENTRIES: Mapping[str, type[np.generic]] = {"voxel": np.uint64, "name": np.uint64}
TREE: Mapping[str, type[np.generic]] = {
    "a": np.uint64,  # smallest fragment of each of the two regions that merge, a < b
    "b": np.uint64,
    "score": np.float64,
    "u": np.uint64,  # a fragment of each region: the largest pair of touching fragments on their common edge
    "v": np.uint64,
    "link_u": np.uint64,  # a fragment of each region: of all touching pairs, the one with the largest sum of affinities
    "link_v": np.uint64,
}
REGIONS: Mapping[str, type[np.generic]] = {
    # Edges between regions. All contacts of region a are known.
    "u": np.uint64,  # the largest pair of touching fragments, one of each region
    "v": np.uint64,
    "a": np.uint64,  # smallest fragment of each region
    "b": np.uint64,
    "b_is_closed": np.uint8,  # whether all contacts of region b are known
    "link_u": np.uint64,  # of all touching pairs, the one with the largest sum of affinities
    "link_v": np.uint64,
    "link_sum": np.uint64,  # that sum
    "contact_count": np.uint64,
    "affinity_sum": np.uint64,
}
LOOKUP: Mapping[str, type[np.generic]] = {"fragment": np.uint64, "segment": np.uint64}

_KEYS = {"u", "v", "bin", "fragment", "segment", "truth", "section", "value"}


def empty(columns: Mapping[str, type[np.generic]]) -> Table:
    """Return a table without rows."""
    return {name: np.zeros(0, dtype) for name, dtype in columns.items()}


def concatenated(parts: Sequence[Table], columns: Mapping[str, type[np.generic]]) -> Table:
    """Return the rows of all parts, in their order."""
    if not parts:
        return empty(columns)
    return {name: np.concatenate([part[name] for part in parts]) for name in columns}


def lexical_order(*columns: NDArray[Any]) -> NDArray[Any]:
    """Return the order `(n,)` that sorts rows by the first column, of equal ones by the second one, and so on."""
    return np.lexsort(columns[::-1])


def combined(
    parts: Sequence[Table],
    columns: Mapping[str, type[np.generic]],
    order_of: Callable[..., NDArray[Any]] = lexical_order,
) -> Table:
    """Return one row per key, keys ascending.

    Counts and sums are added. Columns named `min_...`, `max_...` and `..._max` take the minimum or maximum. `order_of`
    is `lexical_order`, or a faster function with the same result.
    """
    rows = concatenated(parts, columns)
    keys = [name for name in columns if name in _KEYS]
    if not len(rows[keys[0]]):
        return rows
    order = order_of(*(rows[key] for key in keys))
    rows = {name: column[order] for name, column in rows.items()}
    new = np.zeros(len(order), bool)
    new[0] = True
    for key in keys:
        new[1:] |= rows[key][1:] != rows[key][:-1]
    starts = np.flatnonzero(new)
    return {name: column[starts] if name in keys else _reduced(name, column, starts) for name, column in rows.items()}


def looked_up(fragments: NDArray[np.uint64], lookup: Table) -> NDArray[np.uint64]:
    """Return the segment of each fragment, 0 if `lookup` (fragments ascending) does not list it."""
    known = lookup["fragment"]
    if not len(known):
        return np.zeros(len(fragments), np.uint64)
    at = np.minimum(np.searchsorted(known, fragments), len(known) - 1)
    segments: NDArray[np.uint64] = np.where(known[at] == fragments, lookup["segment"][at], np.uint64(0))
    return segments


def _reduced(name: str, column: NDArray[np.generic], starts: NDArray[np.int64]) -> NDArray[np.generic]:
    if name.startswith("min_"):
        return np.minimum.reduceat(column, starts)
    if name.startswith("max_") or name.endswith("_max"):
        return np.maximum.reduceat(column, starts)
    return np.add.reduceat(column, starts)

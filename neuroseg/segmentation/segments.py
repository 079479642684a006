"""Nodes and lookup -> one row per segment: size, number of fragments, and position."""

from __future__ import annotations

import numpy as np

from neuroseg.tables import Table, looked_up

_AXES = ("z", "y", "x")


def segments_table(nodes: Table, lookup: Table) -> Table:
    """Return one row per segment, by ascending `segment` (1..N). Fragments without a segment are omitted.

    Columns: segment, voxels, fragments (uint64); centre_z, centre_y, centre_x (float64, mean position in voxels);
    begin_z ... (uint32, first voxel of the bounding box) and end_z ... (uint32, voxel after the last one). `nodes` has
    the columns of tables.NODES, `lookup` those of tables.LOOKUP. The table is empty without segments.

    >>> nodes = {name: np.array([1], dtype) for name, dtype in NODES.items()}
    >>> segments_table(nodes, {"fragment": np.array([1]), "segment": np.array([1])})["voxels"]
    array([1], dtype=uint64)
    """
    segments = looked_up(nodes["fragment"], lookup).astype(np.int64)
    known = segments > 0
    ids, rows = np.unique(segments[known], return_inverse=True)

    def summed(name: str) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
        sums = np.zeros(len(ids), np.uint64)
        np.add.at(sums, rows, nodes[name][known].astype(np.uint64))
        return sums

    voxels = summed("voxel_count")
    table: Table = {
        "segment": ids.astype(np.uint64),
        "voxels": voxels,
        "fragments": np.bincount(rows, minlength=len(ids)).astype(np.uint64),
    }
    table |= {f"centre_{axis}": summed(f"sum_{axis}") / np.maximum(voxels, 1) for axis in _AXES}
    for axis in _AXES:
        begin, last = np.full(len(ids), np.iinfo(np.uint32).max, np.uint32), np.zeros(len(ids), np.uint32)
        np.minimum.at(begin, rows, nodes[f"min_{axis}"][known].astype(np.uint32))
        np.maximum.at(last, rows, nodes[f"max_{axis}"][known].astype(np.uint32))
        table |= {f"begin_{axis}": begin, f"end_{axis}": last + np.uint32(1)}
    return table

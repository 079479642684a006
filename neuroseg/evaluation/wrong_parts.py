"""Contingency table -> the wrong parts of each object, with their shares of VOI split and VOI merge.

A true object that n segments share has n - 1 split errors: one for each part except the largest. A segment with n true
objects has n - 1 merge errors.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuroseg.evaluation.suspect import MERGE, SPLIT, counted, joining_bits
from neuroseg.tables import Table

# Kind of error -> column of the objects, column of their parts.
COLUMNS = {SPLIT: ("truth", "segment"), MERGE: ("segment", "truth")}


def ranked_parts(table: Table, kind: str) -> Table:
    """Return one row per part of each object, by ascending object, then by rank.

    `table` is a contingency table (evaluation/contingency.py). Objects are true objects for `split` and segments for
    `merge`. Columns: `object`, `part` (ids, uint64), `rank` (0 for the largest part, of equal parts the one with the
    smallest id), `voxels`, and `bits`: the bits of joining the part to all larger parts of its object. They are 0 for
    rank 0, above 0 for all others, and sum to VOI split or VOI merge. An empty table gives no rows.
    """
    of, among = COLUMNS[kind]
    counts = table["count"].astype(np.int64)
    order = np.lexsort((table[among], -counts, table[of]))
    objects, counts = table[of][order], counts[order]
    _, starts, parts = np.unique(objects, return_index=True, return_counts=True)
    before = np.cumsum(counts) - counts
    larger = before - np.repeat(before[starts], parts)
    rank = np.arange(len(order)) - np.repeat(starts, parts)
    bits = np.zeros(len(order))
    bits[rank > 0] = joining_bits(counts[rank > 0], larger[rank > 0], int(counts.sum()))
    return {"object": objects, "part": table[among][order], "rank": rank, "voxels": counts, "bits": bits}


def worst_parts(parts: dict[str, Table], top: int | None) -> list[tuple[str, int]]:
    """Return (kind, row) of the wrong parts with the most bits, the worst first; all of them if `top` is None.

    `parts` contains the result of `ranked_parts` by kind. Parts with equal bits are sorted by kind, object and part.
    """
    found: list[tuple[float, str, int, int, int]] = []
    for kind, rows in parts.items():
        wrong = np.flatnonzero(rows["rank"] > 0)
        keys = (rows["part"][wrong], rows["object"][wrong], -rows["bits"][wrong])
        for row in wrong[np.lexsort(keys)[:top]].tolist():
            key = (-float(rows["bits"][row]), kind, int(rows["object"][row]), int(rows["part"][row]))
            found.append((*key, row))
    return [(kind, row) for _, kind, _, _, row in sorted(found)[:top]]


def description_of(kind: str, of: int, part: int, other: int, voxels: int) -> str:
    """Return one sentence about a wrong part. `other`: the part at the other side of the contact, or the largest."""
    if kind == SPLIT and part == 0:
        return f"true object {of} has {counted(voxels, 'unsegmented voxel')} beside segment {other}"
    if kind == SPLIT:
        beside = f"segment {other}" if other else "unsegmented voxels"
        return f"true object {of} is split: {counted(voxels, 'voxel')} in segment {part} beside {beside}"
    if of == 0:
        return f"unsegmented voxels lie in true object {part} ({counted(voxels, 'voxel')}) and in true object {other}"
    return f"segment {of} merges true object {part} ({counted(voxels, 'voxel')}) with true object {other}"


def rows_of_objects(rows: Table, objects: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the indices of the parts of these objects, sorted by object and part."""
    found = np.flatnonzero(np.isin(rows["object"], objects))
    return found[np.lexsort((rows["part"][found], rows["object"][found]))]

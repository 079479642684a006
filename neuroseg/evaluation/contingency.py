"""Two label volumes -> how many voxels each pair of labels shares."""

from __future__ import annotations

from collections.abc import Sequence

import fastremap
import numpy as np
from numpy.typing import NDArray

from neuroseg.errors import InputError
from neuroseg.tables import Table

COLUMNS = {"segment": np.uint64, "truth": np.uint64, "count": np.uint64}


def contingency(segments: NDArray[np.integer], truth: NDArray[np.integer], ignore: Sequence[int] = (0,)) -> Table:
    """Return rows (segment, truth, count), sorted, of two label arrays of one shape.

    Voxels whose truth is in `ignore` do not count. Segment 0 counts as a label of its own.
    """
    if segments.shape != truth.shape:
        raise InputError(f"segments have shape {segments.shape}, truth has {truth.shape}; they must be equal")
    counted = ~np.isin(truth, list(ignore))
    if not counted.any():
        return {name: np.zeros(0, dtype) for name, dtype in COLUMNS.items()}
    segment_ids, segment_rows = np.unique(segments[counted], return_inverse=True)
    truth_ids, truth_rows = np.unique(truth[counted], return_inverse=True)
    keys = segment_rows.astype(np.uint64) * np.uint64(len(truth_ids)) + truth_rows.astype(np.uint64)
    pairs, counts = fastremap.unique(keys, return_counts=True)
    return {
        "segment": segment_ids[pairs // len(truth_ids)].astype(np.uint64),
        "truth": truth_ids[pairs % len(truth_ids)].astype(np.uint64),
        "count": counts.astype(np.uint64),
    }


def added(parts: Sequence[Table]) -> Table:
    """Return the contingency of several regions together, sorted by (segment, truth)."""
    rows = {name: np.concatenate([part[name] for part in parts]) for name in COLUMNS}
    return grouped(rows["segment"], rows["truth"], rows["count"])


def grouped(segment: NDArray[np.generic], truth: NDArray[np.generic], count: NDArray[np.generic]) -> Table:
    """Return one row per pair of labels, sorted, counts added."""
    if not len(segment):
        return {"segment": segment, "truth": truth, "count": count}
    order = np.lexsort((truth, segment))
    segment, truth, count = segment[order], truth[order], count[order]
    new = np.ones(len(order), bool)
    new[1:] = (segment[1:] != segment[:-1]) | (truth[1:] != truth[:-1])
    starts = np.flatnonzero(new)
    return {"segment": segment[starts], "truth": truth[starts], "count": np.add.reduceat(count, starts)}

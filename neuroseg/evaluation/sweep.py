"""Merge tree and contingency of fragments against truth -> scores at every threshold, without relabeling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neuroseg.agglomeration.partition import segment_lookup
from neuroseg.evaluation.contingency import grouped
from neuroseg.evaluation.metrics import Scores, scores_of
from neuroseg.tables import Table

THRESHOLDS: NDArray[np.float64] = np.round(np.arange(0.02, 0.99, 0.02), 2)


def sweep(
    tree: Table,
    nodes: Table,
    fragment_contingency: Table,
    thresholds: Sequence[float] = tuple(THRESHOLDS.tolist()),
    *,
    min_size_voxels: int = 0,
    small: str = "merge",
) -> list[tuple[float, Scores]]:
    """Return (threshold, scores) of the segmentation that each threshold gives.

    `fragment_contingency` counts (fragment, truth) voxels; fragments absent from `nodes` (0) count as segment 0.
    """
    fragments = fragment_contingency["segment"]
    out = []
    for threshold in thresholds:
        lookup = segment_lookup(tree, nodes, threshold=threshold, min_size_voxels=min_size_voxels, small=small)
        segments = looked_up(fragments, lookup)
        table = grouped(segments, fragment_contingency["truth"], fragment_contingency["count"])
        out.append((threshold, scores_of(table)))
    return out


def looked_up(fragments: NDArray[np.uint64], lookup: Table) -> NDArray[np.uint64]:
    """Return the segment of each fragment; 0 for those the lookup does not list."""
    if not len(lookup["fragment"]):
        return np.zeros(len(fragments), np.uint64)
    at = np.minimum(np.searchsorted(lookup["fragment"], fragments), len(lookup["fragment"]) - 1)
    segments: NDArray[np.uint64] = np.where(lookup["fragment"][at] == fragments, lookup["segment"][at], np.uint64(0))
    return segments

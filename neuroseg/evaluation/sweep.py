"""Merge tree and contingency table of fragments and truth -> scores at every threshold, without relabeling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neuroseg.agglomeration.partition import NO_CONSTRAINTS, Constraints, segment_lookup
from neuroseg.evaluation.contingency import CONTINGENCY
from neuroseg.evaluation.metrics import Scores, scores_of
from neuroseg.tables import Table, combined, looked_up

THRESHOLDS: NDArray[np.float64] = np.round(np.arange(0.02, 0.99, 0.02), 2)


def sweep(
    tree: Table,
    nodes: Table,
    fragment_contingency: Table,
    thresholds: Sequence[float] = tuple(THRESHOLDS.tolist()),
    *,
    min_size_voxels: int = 0,
    small: str = "merge",
    constraints: Constraints = NO_CONSTRAINTS,
) -> list[tuple[float, Scores]]:
    """Return (threshold, scores of the segmentation) for each threshold.

    `fragment_contingency` counts the voxels of each (fragment, truth) pair. Fragments that are not in `nodes`, such as
    0, belong to segment 0. `constraints` hold at every threshold.
    """
    fragments = fragment_contingency["segment"]
    out = []
    for threshold in thresholds:
        lookup = segment_lookup(
            tree, nodes, threshold=threshold, min_size_voxels=min_size_voxels, small=small, constraints=constraints
        )
        segments = looked_up(fragments, lookup)
        out.append((threshold, scores_of(combined([{**fragment_contingency, "segment": segments}], CONTINGENCY))))
    return out

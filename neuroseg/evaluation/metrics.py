"""Contingency table -> variation of information and adapted Rand error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroseg.errors import InputError
from neuroseg.tables import Table


@dataclass(frozen=True)
class Scores:
    """Scores of a segmentation; lower is better.

    In bits: voi_split = H(segmentation | truth), voi_merge = H(truth | segmentation). In [0, 1]: arand = 1 - F.
    """

    voi_split: float
    voi_merge: float
    arand: float

    @property
    def voi_sum(self) -> float:
        """Sum of voi_split and voi_merge, in bits."""
        return self.voi_split + self.voi_merge

    def as_dict(self) -> dict[str, float]:
        """Return the four scores by name."""
        return {
            "voi_split": self.voi_split,
            "voi_merge": self.voi_merge,
            "voi_sum": self.voi_sum,
            "arand": self.arand,
        }


def scores_of(table: Table) -> Scores:
    """Return the scores of a contingency table (evaluation/contingency.py).

    Variation of information after Nunez-Iglesias et al. 2013. `arand` is 1 minus the Rand F-score of Arganda-Carreras
    et al. 2015. Raises InputError if the table counts no voxels.
    """
    counts = table["count"].astype(np.float64)
    if counts.sum() == 0:
        raise InputError("nothing to compare: the truth contains only ignored labels in the overlap")
    by_segment = _sums(table["segment"], counts)
    by_truth = _sums(table["truth"], counts)
    joint = entropy(counts)
    squares, segment_squares, truth_squares = (float((c**2).sum()) for c in (counts, by_segment, by_truth))
    return Scores(
        voi_split=max(0.0, joint - entropy(by_truth)),
        voi_merge=max(0.0, joint - entropy(by_segment)),
        arand=1.0 - 2.0 * squares / (segment_squares + truth_squares),
    )


def entropy(counts: NDArray[np.floating | np.integer]) -> float:
    """Return the entropy, in bits, of a distribution given by counts. 0 if there are no counts."""
    found = counts[counts > 0].astype(np.float64)
    shares = found / found.sum()
    return max(0.0, float(-(shares * np.log2(shares)).sum()))


def _sums(labels: NDArray[np.generic], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    sums: NDArray[np.float64] = np.bincount(np.unique(labels, return_inverse=True)[1], counts).astype(np.float64)
    return sums

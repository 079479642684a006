"""Affinities and fragments of a volume that fits in memory -> the partition of the fragments by waterz."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout

import numpy as np
from numpy.typing import NDArray

from neuroseg.agglomeration.scorings import MEAN, Scoring
from neuroseg.geometry import Triple, contact_channels

# The precompiled quantiles of waterz, and the bins of its queue in the paper. The mean uses an exact queue.
QUANTILES = range(10, 100, 5)
_QUEUE_BINS = 256


def waterz_partition(
    affinities: NDArray[np.uint8],
    offsets: Sequence[Triple],
    labels: NDArray[np.uint64],
    fragments: NDArray[np.uint64],
    scoring: Scoring,
    *,
    threshold: float,
) -> NDArray[np.int64]:
    """Return the part `(n,)` of each of `fragments` (ascending, unique).

    `affinities` `(c, z, y, x)` uint8 and `labels` `(z, y, x)` (ids of `fragments`, or 0) cover the whole region. waterz
    breaks ties by label. The labels passed to it are ranks 1..n.
    """
    import waterz

    dense = np.where(labels > 0, np.searchsorted(fragments, labels) + 1, 0).astype(np.uint64)
    bins = 0 if scoring.percent == MEAN else _QUEUE_BINS
    with _silenced_stdout():
        # waterz overwrites the array of labels.
        (segments,) = waterz.agglomerate(
            backward_links(affinities, offsets),
            [threshold],
            fragments=dense.copy(),
            scoring_function=_function(scoring),
            discretize_queue=bins,
        )
    parts = np.zeros(len(fragments) + 1, np.int64)
    parts[dense] = segments
    return parts[1:]


def backward_links(affinities: NDArray[np.uint8], offsets: Sequence[Triple]) -> NDArray[np.float32]:
    """Return affinities `(3, z, y, x)` float32 in [0, 1] of each voxel with its lower neighbour along z, y, x.

    Values of the first voxels along an axis, which have no lower neighbour, are undefined.
    """
    out = np.zeros((3, *affinities.shape[1:]), np.float32)
    for axis, channel in enumerate(contact_channels(offsets)):
        links = affinities[channel]
        if offsets[channel][axis] > 0:
            links = np.roll(links, 1, axis)
        out[axis] = links
    out /= 255
    return out


def _function(scoring: Scoring) -> str:
    """Return the name of the scoring function in waterz."""
    if scoring.percent == MEAN:
        return "OneMinus<MeanAffinity<RegionGraphType, ScoreValue>>"
    init = ", false" if scoring.every_contact else ""
    return f"OneMinus<HistogramQuantileAffinity<RegionGraphType, {scoring.percent}, ScoreValue, 256{init}>>"


@contextmanager
def _silenced_stdout() -> Iterator[None]:
    """Discard output of Python and compiled code to stdout, which would break --json."""
    sys.stdout.flush()
    stdout = os.dup(1)
    try:
        with open(os.devnull, "w") as sink, redirect_stdout(sink):
            os.dup2(sink.fileno(), 1)
            yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)

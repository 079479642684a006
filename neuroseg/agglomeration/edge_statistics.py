"""The statistics of all edges for compiled code, how they combine, and the score they give.

    (sums, contacts, heads, nexts, values, counts), made by `statistics_of`

The mean uses `sums` and `contacts`. A quantile uses the histogram of each edge: a linked list of entries (ascending
bins) that starts at heads[edge]. Then `contacts` is the number of values in the histogram.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroseg.agglomeration.scorings import MEAN, Scoring
from neuroseg.kernels import compiled
from neuroseg.tables import BINS, Table, empty


def statistics_of(edges: Table, bins: Table, scoring: Scoring) -> tuple[NDArray[Any], ...]:
    """Return the statistics of all edges. Tables as in `merged_regions` (tree.py)."""
    if scoring.percent == MEAN:
        starts, bins = np.zeros(1, np.int64), empty(BINS)
    else:
        starts = _first_rows(bins)
        assert len(starts) == len(edges["u"]) + 1, "every edge has a histogram"
    sums, contacts = edges["affinity_sum"].astype(np.float64), edges["contact_count"].astype(np.int64)
    values, counts = bins["bin"].astype(np.uint8), bins["count"].astype(np.int64)
    statistics: tuple[NDArray[Any], ...] = _linked(sums, contacts, starts, values, counts, scoring.percent)
    return statistics


def histograms_of(rows: NDArray[np.int64], statistics: tuple[NDArray[Any], ...]) -> tuple[NDArray[Any], ...]:
    """Return the number of histogram entries of some edges, and bin and count of all these entries, in their order."""
    _, _, heads, nexts, values, counts = statistics
    lengths, entries = _entries(rows, heads, nexts)
    return lengths, values[entries], counts[entries]


def _first_rows(bins: Table) -> NDArray[np.int64]:
    """Return the first row of each pair (u, v), and the number of rows."""
    new = np.ones(len(bins["u"]) + 1, bool)
    new[1:-1] = (bins["u"][1:] != bins["u"][:-1]) | (bins["v"][1:] != bins["v"][:-1])
    return np.flatnonzero(new)


@compiled
def _entries(rows, heads, nexts):  # type: ignore[no-untyped-def]
    """The number of histogram entries of each edge in `rows`, and the entries."""
    lengths = np.zeros(len(rows), np.int64)
    for row in range(len(rows)):
        at = heads[rows[row]]
        while at >= 0:
            lengths[row] += 1
            at = nexts[at]
    entries, size = np.empty(lengths.sum(), np.int64), 0
    for row in range(len(rows)):
        at = heads[rows[row]]
        while at >= 0:
            entries[size] = at
            size += 1
            at = nexts[at]
    return lengths, entries


@compiled
def _linked(sums, contacts, starts, values, counts, percent):  # type: ignore[no-untyped-def]
    """The statistics of all edges, with a list of histogram entries for each edge."""
    heads = np.zeros(len(sums) if percent >= 0 else 0, np.int64)
    nexts = np.full(len(values), -1, np.int64)
    if percent >= 0:
        for edge in range(len(sums)):
            heads[edge] = starts[edge]
            contacts[edge] = 0
            for at in range(starts[edge], starts[edge + 1]):
                contacts[edge] += counts[at]
                if at + 1 < starts[edge + 1]:
                    nexts[at] = at + 1
    return sums, contacts, heads, nexts, values, counts


@compiled
def score_of(edge, statistics, percent):  # type: ignore[no-untyped-def]
    """One minus the mean affinity, or one minus HistogramQuantileAffinity of waterz.

    The quantile is the value (bin + .5) / 256 with rank floor(Q n / 100) + 1 of n values.
    """
    sums, contacts, heads, nexts, values, counts = statistics
    if percent < 0:
        return 1.0 - sums[edge] / (255.0 * contacts[edge])
    pivot = percent * contacts[edge] // 100 + 1
    at = heads[edge]
    seen = counts[at]
    while seen < pivot and nexts[at] >= 0:
        at = nexts[at]
        seen += counts[at]
    return 1.0 - (values[at] + 0.5) / 256.0


@compiled
def scores_of_edges(edges, statistics, percent):  # type: ignore[no-untyped-def]
    out = np.empty(edges, np.float64)
    for edge in range(edges):
        out[edge] = score_of(edge, statistics, percent)
    return out


@compiled
def add_to(edge, other, statistics, percent):  # type: ignore[no-untyped-def]
    """Add the statistics of edge `other` to those of `edge`."""
    sums, contacts, heads, nexts, values, counts = statistics
    sums[edge] += sums[other]
    contacts[edge] += contacts[other]
    if percent >= 0:
        heads[edge] = _merge_histograms(heads[edge], heads[other], nexts, values, counts)


@compiled
def _merge_histograms(one, other, nexts, values, counts):  # type: ignore[no-untyped-def]
    """Merge two linked histograms with ascending bins, and add counts of equal bins. Return the new head."""
    head, tail = np.int64(-1), np.int64(-1)
    while one >= 0 or other >= 0:
        if other < 0 or (one >= 0 and values[one] <= values[other]):
            taken = one
            one = nexts[one]
        else:
            taken = other
            other = nexts[other]
        if tail >= 0 and values[tail] == values[taken]:
            counts[tail] += counts[taken]
        else:
            if tail >= 0:
                nexts[tail] = taken
            else:
                head = taken
            tail = taken
            nexts[tail] = -1
    return head

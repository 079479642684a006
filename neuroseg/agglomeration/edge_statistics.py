"""The statistics of all edges for compiled code, how they combine, and the score they give.

    (sums, contacts, levels, heads, nexts, values, counts), made by `statistics_of`

The mean uses `sums` and `contacts`. A quantile uses the histogram of each edge: a linked list of entries (ascending
bins) that starts at heads[edge]. Then `contacts` is the number of values in the histogram, and `levels` the bin of the
quantile. For the mean, all other arrays are empty.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroseg.kernels import compiled, compiled_in_place
from neuroseg.tables import Allocate

Arrays = tuple[NDArray[Any], ...]
Histograms = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]
NO_HISTOGRAMS: Histograms = (np.zeros(1, np.int64), np.zeros(0, np.uint8), np.zeros(0, np.int64))


def statistics_of(
    sums: NDArray[np.float64],
    contacts: NDArray[np.int64],
    histograms: Histograms,
    percent: int,
    new: Allocate = np.empty,
) -> Arrays:
    """Return the statistics of all edges. `sums` and `contacts` become part of them, `contacts` changed.

    `histograms`: the first entry of each edge and the number of entries, and bin and count of each entry. For the mean
    (a percent below 0): NO_HISTOGRAMS. `new` allocates arrays.
    """
    starts, values, counts = histograms
    assert percent < 0 or len(starts) == len(sums) + 1, "every edge has a histogram"
    levels, nexts, heads = new(len(starts) - 1, np.uint8), new(len(values), np.int64), new(len(starts) - 1, np.int64)
    nexts[:], heads[:] = -1, starts[:-1]
    statistics = (sums, contacts, levels, heads, nexts, values, counts)
    _link(starts, statistics, percent)
    return statistics


def histograms_of(rows: NDArray[Any], statistics: Arrays) -> tuple[NDArray[Any], ...]:
    """Return the number of histogram entries of some edges, and bin and count of all these entries, in their order."""
    _, _, _, heads, nexts, values, counts = statistics
    lengths, entries = _entries(rows, heads, nexts)
    return lengths, values[entries], counts[entries]


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


@compiled_in_place
def _link(starts, statistics, percent):  # type: ignore[no-untyped-def]
    """Link the histogram entries of each edge, and set its number of values and its level."""
    _, contacts, levels, _, nexts, _, counts = statistics
    for edge in range(len(starts) - 1):
        contacts[edge] = 0
        for at in range(starts[edge], starts[edge + 1]):
            contacts[edge] += counts[at]
            if at + 1 < starts[edge + 1]:
                nexts[at] = at + 1
        levels[edge] = _quantile(edge, statistics, percent)


@compiled_in_place
def score_of(edge, statistics, percent):  # type: ignore[no-untyped-def]
    """One minus the mean affinity, or one minus HistogramQuantileAffinity of waterz: (bin + .5) / 256."""
    sums, contacts, levels = statistics[:3]
    if percent < 0:
        return 1.0 - sums[edge] / (255.0 * contacts[edge])
    return 1.0 - (levels[edge] + 0.5) / 256.0


@compiled_in_place
def _quantile(edge, statistics, percent):  # type: ignore[no-untyped-def]
    """The bin of the value with rank floor(Q n / 100) + 1 of n values."""
    _, contacts, _, heads, nexts, values, counts = statistics
    pivot = percent * contacts[edge] // 100 + 1
    at = heads[edge]
    seen = counts[at]
    while seen < pivot and nexts[at] >= 0:
        at = nexts[at]
        seen += counts[at]
    return values[at]


@compiled
def scores_of_edges(statistics, percent):  # type: ignore[no-untyped-def]
    out = np.empty(len(statistics[0]), np.float64)
    for edge in range(len(out)):
        out[edge] = score_of(edge, statistics, percent)
    return out


@compiled_in_place
def add_to(edge, other, statistics, percent):  # type: ignore[no-untyped-def]
    """Add the statistics of edge `other` to those of `edge`."""
    sums, contacts, levels, heads, nexts, values, counts = statistics
    sums[edge] += sums[other]
    contacts[edge] += contacts[other]
    if percent >= 0:
        heads[edge] = _merge_histograms(heads[edge], heads[other], nexts, values, counts)
        levels[edge] = _quantile(edge, statistics, percent)


@compiled_in_place
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

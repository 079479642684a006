"""waterz' agglomeration with its queue of 256 first-in-first-out bins, emulated on our edge table.

waterz (`discretize_queue=256`) merges whichever edge entered the least bin first; our tree merges by (score, key). On
uint8 affinities quantile scores tie all the time, so the two differ in the order of ties alone: emulating that order
on the same statistics must give waterz' partition exactly. This proves the table and the scores, not the order.

What follows waterz: edges enter sorted by (u, v); a merge keeps the smaller region and, of two parallel edges, the one
with the smaller score it was queued with; the edge that is kept is stale, and is scored and queued anew when its turn
comes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from neuroseg.agglomeration.scorings import Scoring
from neuroseg.tables import Table

BINS = 256


def emulated_partitions(
    edges: Table, bins: Table, count: int, scoring: Scoring, thresholds: Sequence[float]
) -> Iterator[NDArray[np.int64]]:
    """Yield the smallest fragment of the region of each of fragments 1..count, at ascending thresholds."""
    ends = np.stack([edges["u"], edges["v"]], 1).astype(np.int64).tolist()
    histograms = _histograms(edges, bins, scoring)
    neighbours: list[dict[int, int]] = [{} for _ in range(count + 1)]
    for edge, (u, v) in enumerate(ends):
        neighbours[u][v] = neighbours[v][u] = edge
    queued = [_score_bin(histogram, scoring.percent) for histogram in histograms]
    queue: list[deque[int]] = [deque() for _ in range(BINS)]
    for edge, score in enumerate(queued):
        queue[score].append(edge)
    stale, deleted = set[int](), set[int]()
    parents = np.arange(count + 1)

    def merge(edge: int) -> None:
        a, b = sorted(ends[edge])
        parents[b] = a
        del neighbours[a][b], neighbours[b][a]
        for other, moved in neighbours[b].items():
            del neighbours[other][b]
            kept = moved
            held = neighbours[a].get(other)
            if held is not None:
                kept, gone = (held, moved) if queued[moved] > queued[held] else (moved, held)
                histograms[kept] += histograms[gone]
                stale.add(kept)
                deleted.add(gone)
            ends[kept] = [a, other]
            neighbours[a][other] = neighbours[other][a] = kept
        neighbours[b] = {}

    for threshold in thresholds:
        while (score := next((n for n, waiting in enumerate(queue) if waiting), BINS)) < BINS:
            if np.float32(_score(score)) >= np.float32(threshold):
                break
            edge = queue[score].popleft()
            if edge in deleted:
                continue
            if edge in stale:
                stale.remove(edge)
                queued[edge] = _score_bin(histograms[edge], scoring.percent)
                queue[queued[edge]].append(edge)
                continue
            merge(edge)
        # A parent is the smaller of two, so that one ascending pass reaches every root.
        for fragment in range(count + 1):
            parents[fragment] = parents[parents[fragment]]
        yield parents[1:].copy()


def _histograms(edges: Table, bins: Table, scoring: Scoring) -> NDArray[np.int64]:
    """Return the histogram `(256,)` of each edge: one entry, its largest affinity, or all of its affinities."""
    out = np.zeros((len(edges["u"]), BINS), np.int64)
    if not scoring.every_contact:
        out[np.arange(len(out)), edges["affinity_max"]] = 1
        return out
    rows = np.unique(np.stack([bins["u"], bins["v"]], 1), axis=0, return_inverse=True)[1]
    out[rows, bins["bin"]] = bins["count"]
    return out


def _score_bin(histogram: NDArray[np.int64], percent: int) -> int:
    """Return the bin of the queue: 255 less the affinity of rank floor(Q n / 100) + 1."""
    below = np.cumsum(histogram)
    return BINS - 1 - int(np.searchsorted(below, percent * int(below[-1]) // 100 + 1))


def _score(score_bin: int) -> float:
    return 1 - (BINS - 1 - score_bin + 0.5) / BINS

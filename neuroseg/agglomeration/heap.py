"""A binary heap of (score, key) in plain arrays, for compiled code: `(scores, keys, edges, versions)`.

Entries are sorted by `scores` (float64), then by `keys`. `edges` and `versions` are moved with them.
"""

from __future__ import annotations

import numpy as np

from neuroseg.kernels import compiled

_BEGINNING = 1024


@compiled
def empty_heap(like):  # type: ignore[no-untyped-def]
    """A heap with space for some entries, whose keys, edges and versions have the type of the array `like`."""
    return (
        np.empty(_BEGINNING, np.float64),
        np.empty(_BEGINNING, like.dtype),
        np.empty(_BEGINNING, like.dtype),
        np.empty(_BEGINNING, like.dtype),
    )


@compiled
def grown(heap):  # type: ignore[no-untyped-def]
    """The heap with space for twice as many entries."""
    scores, keys, edges, versions = heap
    count = len(scores)
    larger = (
        np.empty(2 * count, np.float64),
        np.empty(2 * count, keys.dtype),
        np.empty(2 * count, keys.dtype),
        np.empty(2 * count, keys.dtype),
    )
    larger[0][:count], larger[1][:count], larger[2][:count], larger[3][:count] = scores, keys, edges, versions
    return larger


@compiled
def push(heap, size, score, key, edge, version):  # type: ignore[no-untyped-def]
    """Add an entry after the first `size` ones. The arrays must have space for it."""
    scores, keys, edges, versions = heap
    at = size
    while at > 0:
        parent = (at - 1) >> 1
        if scores[parent] < score or (scores[parent] == score and keys[parent] <= key):
            break
        scores[at], keys[at], edges[at], versions[at] = scores[parent], keys[parent], edges[parent], versions[parent]
        at = parent
    scores[at], keys[at], edges[at], versions[at] = score, key, edge, version


@compiled
def drop_least(heap, size):  # type: ignore[no-untyped-def]
    """Remove entry 0, the smallest of the first `size` entries."""
    scores, keys, edges, versions = heap
    last = size - 1
    score, key, edge, version = scores[last], keys[last], edges[last], versions[last]
    at = 0
    while True:
        child = 2 * at + 1
        if child >= last:
            break
        right = child + 1
        if right < last and (
            scores[right] < scores[child] or (scores[right] == scores[child] and keys[right] < keys[child])
        ):
            child = right
        if score < scores[child] or (score == scores[child] and key <= keys[child]):
            break
        scores[at], keys[at], edges[at], versions[at] = scores[child], keys[child], edges[child], versions[child]
        at = child
    scores[at], keys[at], edges[at], versions[at] = score, key, edge, version

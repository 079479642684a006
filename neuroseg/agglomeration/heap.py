"""A binary heap of (score, key) in plain arrays, for compiled code.

Entries are sorted by `scores` (float64), then by `keys` (int64). `edges` and `versions` are moved with them.
"""

from __future__ import annotations

from neuroseg.kernels import compiled


@compiled
def push(scores, keys, edges, versions, size, score, key, edge, version):  # type: ignore[no-untyped-def]
    """Add an entry after the first `size` ones. The arrays must have space for it."""
    at = size
    while at > 0:
        parent = (at - 1) >> 1
        if scores[parent] < score or (scores[parent] == score and keys[parent] <= key):
            break
        scores[at], keys[at], edges[at], versions[at] = scores[parent], keys[parent], edges[parent], versions[parent]
        at = parent
    scores[at], keys[at], edges[at], versions[at] = score, key, edge, version


@compiled
def drop_least(scores, keys, edges, versions, size):  # type: ignore[no-untyped-def]
    """Remove entry 0, the smallest of the first `size` entries."""
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

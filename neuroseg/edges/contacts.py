"""Contacts of one block -> its part of the edge table.

A pair of voxels (v, v + offset) belongs to the block that writes v:

    lower neighbour | block            offset (0, 0, -1): the pair (a, b) belongs to the block of b,
          . . . a   |  b . . .         whatever block a lies in
"""

from __future__ import annotations

from collections.abc import Sequence

import fastremap
import numba
import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.geometry import Triple, contact_channels, slices
from neuroseg.tables import BINS, EDGES, Table, empty


def block_edges(
    affinities: NDArray[np.uint8],
    fragments: NDArray[np.uint64],
    *,
    offsets: tuple[Triple, ...],
    read_roi: Roi,
    write_roi: Roi,
    channels: Sequence[int] | None = None,
    with_bins: bool = False,
) -> tuple[Table, Table]:
    """Return the block's edge rows, sorted by (u, v), and the histogram of their affinities (empty unless asked).

    `affinities` `(c, z, y, x)` uint8 are those of `write_roi`; `fragments` `(z, y, x)` uint64 those of `read_roi`,
    which holds the partners of `channels`, by default those that link direct neighbours. 0 is no fragment and has no
    edges. Partners past `read_roi` do not exist.
    """
    dense, ids = _dense(fragments)
    channels = contact_channels(offsets) if channels is None else channels
    steps = np.array([offsets[channel] for channel in channels], np.int64)
    inner = slices(write_roi, read_roi.begin)
    begin = np.array([part.start for part in inner], np.int64)
    firsts, seconds, contact_count, affinity_sum, affinity_max, histogram = _accumulate(
        affinities, dense, np.array(channels, np.int64), steps, begin, with_bins
    )
    if not len(firsts):
        return empty(EDGES), empty(BINS)
    u, v = ids[firsts], ids[seconds]
    low, high = np.minimum(u, v), np.maximum(u, v)
    order = np.lexsort((high, low))
    edges: Table = {
        "u": low[order],
        "v": high[order],
        "contact_count": contact_count[order],
        "affinity_sum": affinity_sum[order],
        "affinity_max": affinity_max[order],
    }
    return edges, _sparse_bins(edges, histogram[order]) if with_bins else empty(BINS)


def _dense(fragments: NDArray[np.uint64]) -> tuple[NDArray[np.uint32], NDArray[np.uint64]]:
    """Return fragments renumbered 1..n (0 stays 0) and the table from the new number to the id."""
    if fragments.size == 0:
        return fragments.astype(np.uint32), np.zeros(1, np.uint64)
    dense, mapping = fastremap.renumber(fragments, preserve_zero=True, in_place=False)
    ids = np.zeros(int(max(mapping.values(), default=0)) + 1, np.uint64)
    ids[np.fromiter(mapping.values(), np.int64, len(mapping))] = np.fromiter(mapping.keys(), np.uint64, len(mapping))
    ids[0] = 0
    return dense.astype(np.uint32), ids


def _sparse_bins(edges: Table, histogram: NDArray[np.uint32]) -> Table:
    """Return the non-zero entries of the edges' histograms `(edges, 256)` as rows (u, v, bin, count)."""
    rows, bins = np.nonzero(histogram)
    return {
        "u": edges["u"][rows],
        "v": edges["v"][rows],
        "bin": bins.astype(np.uint8),
        "count": histogram[rows, bins].astype(np.uint64),
    }


@numba.njit(cache=True, nogil=True)
def _slot(keys, key):  # type: ignore[no-untyped-def]
    """Index of `key` in an open-addressing table, or of the free slot where it belongs (0 marks a free slot)."""
    mask = np.uint64(len(keys) - 1)
    at = (key * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(20)) & mask
    while keys[at] != np.uint64(0) and keys[at] != key:
        at = (at + np.uint64(1)) & mask
    return at


@numba.njit(cache=True, nogil=True)
def _grown_slots(keys, rows):  # type: ignore[no-untyped-def]
    bigger = np.zeros(len(keys) * 2, np.uint64)
    moved = np.zeros(len(keys) * 2, np.int64)
    for at in range(len(keys)):
        if keys[at] != np.uint64(0):
            new = _slot(bigger, keys[at])
            bigger[new] = keys[at]
            moved[new] = rows[at]
    return bigger, moved


@numba.njit(cache=True, nogil=True)
def _accumulate(affinities, dense, channels, steps, begin, with_bins):  # type: ignore[no-untyped-def]
    _, depth, height, width = affinities.shape
    capacity = 1024
    keys = np.zeros(capacity * 4, np.uint64)
    rows = np.zeros(capacity * 4, np.int64)
    pairs = np.zeros(capacity, np.uint64)
    counts = np.zeros(capacity, np.uint64)
    sums = np.zeros(capacity, np.uint64)
    largest = np.zeros(capacity, np.uint8)
    histogram = np.zeros((capacity if with_bins else 1, 256), np.uint32)
    used = 0
    last_key, last_row = np.uint64(0), 0
    for n in range(len(channels)):
        for z in range(depth):
            pz = z + begin[0] + steps[n, 0]
            if pz < 0 or pz >= dense.shape[0]:
                continue
            for y in range(height):
                py = y + begin[1] + steps[n, 1]
                if py < 0 or py >= dense.shape[1]:
                    continue
                for x in range(width):
                    px = x + begin[2] + steps[n, 2]
                    if px < 0 or px >= dense.shape[2]:
                        continue
                    a = dense[z + begin[0], y + begin[1], x + begin[2]]
                    b = dense[pz, py, px]
                    if a == b or a == 0 or b == 0:
                        continue
                    key = (np.uint64(min(a, b)) << np.uint64(32)) | np.uint64(max(a, b))
                    if key != last_key:
                        at = _slot(keys, key)
                        if keys[at] == np.uint64(0):
                            if used == capacity:
                                capacity *= 2
                                pairs = np.concatenate((pairs, np.zeros(used, np.uint64)))
                                counts = np.concatenate((counts, np.zeros(used, np.uint64)))
                                sums = np.concatenate((sums, np.zeros(used, np.uint64)))
                                largest = np.concatenate((largest, np.zeros(used, np.uint8)))
                                if with_bins:
                                    histogram = np.concatenate((histogram, np.zeros((used, 256), np.uint32)))
                                keys, rows = _grown_slots(keys, rows)
                                at = _slot(keys, key)
                            keys[at] = key
                            rows[at] = used
                            pairs[used] = key
                            used += 1
                        last_key, last_row = key, rows[at]
                    affinity = affinities[channels[n], z, y, x]
                    counts[last_row] += np.uint64(1)
                    sums[last_row] += np.uint64(affinity)
                    largest[last_row] = max(largest[last_row], affinity)
                    if with_bins:
                        histogram[last_row, affinity] += np.uint32(1)
    firsts = (pairs[:used] >> np.uint64(32)).astype(np.int64)
    seconds = (pairs[:used] & np.uint64(0xFFFFFFFF)).astype(np.int64)
    return firsts, seconds, counts[:used], sums[:used], largest[:used], histogram[: used if with_bins else 0]

"""Fragments and affinities of one block -> its part of the edge table.

A pair of voxels (v, v + offset) belongs to the block that writes v:

    lower neighbour | block            offset (0, 0, -1): the pair (a, b) belongs to the block of b,
          . . . a   |  b . . .         in which block a lies does not matter
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.edges.dense import DenseFragments
from neuroseg.geometry import Triple, contact_channels, slices
from neuroseg.kernels import compiled
from neuroseg.tables import BINS, EDGES, Table, empty


def block_edges(
    affinities: NDArray[np.uint8],
    fragments: DenseFragments,
    *,
    offsets: tuple[Triple, ...],
    read_roi: Roi,
    write_roi: Roi,
    channels: Sequence[int] | None = None,
    with_bins: bool = False,
) -> tuple[Table, Table]:
    """Return the edges of a block, sorted by (u, v), and the histograms of their affinities (empty unless `with_bins`).

    `affinities` `(c, z, y, x)` uint8 cover `write_roi`. `fragments` `(z, y, x)` cover `read_roi`, which includes the
    partner voxels of `channels` (default: those that link direct neighbours). Partners outside `read_roi` are ignored.
    0 is background and has no edges.
    """
    dense, ids = fragments
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


def _sparse_bins(edges: Table, histogram: NDArray[np.uint32]) -> Table:
    """Return the non-zero entries of the histograms `(edges, 256)` as rows (u, v, bin, count)."""
    rows, bins = np.nonzero(histogram)
    return {
        "u": edges["u"][rows],
        "v": edges["v"][rows],
        "bin": bins.astype(np.uint8),
        "count": histogram[rows, bins].astype(np.uint64),
    }


@compiled
def _slot(keys, key):  # type: ignore[no-untyped-def]
    """Index of `key` in a hash table with open addressing, or of the free slot for it (0: free)."""
    mask = np.uint64(len(keys) - 1)
    at = (key * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(20)) & mask
    while keys[at] != np.uint64(0) and keys[at] != key:
        at = (at + np.uint64(1)) & mask
    return at


@compiled
def _new_table(with_bins):  # type: ignore[no-untyped-def]
    """An empty table: hash table of (pair, row), and pair, count, sum, maximum and histogram of each row."""
    rows = 1024
    return (
        np.zeros(4 * rows, np.uint64),
        np.zeros(4 * rows, np.int64),
        np.zeros(rows, np.uint64),
        np.zeros(rows, np.uint64),
        np.zeros(rows, np.uint64),
        np.zeros(rows, np.uint8),
        np.zeros((rows if with_bins else 0, 256), np.uint32),
    )


@compiled
def _with_room(table, used, more):  # type: ignore[no-untyped-def]
    """The table with space for `more` rows after the `used` ones. At most a quarter of the slots is used."""
    slots_before, _, pairs, counts, sums, largest, histogram = table
    if used + more <= len(pairs):
        return table
    added = max(len(pairs), more)
    slots = len(slots_before)  # a power of two, as `_slot` needs
    while slots < 4 * (len(pairs) + added):
        slots *= 2
    keys, rows = np.zeros(slots, np.uint64), np.zeros(slots, np.int64)
    for row in range(used):
        at = _slot(keys, pairs[row])
        keys[at], rows[at] = pairs[row], row
    return (
        keys,
        rows,
        np.concatenate((pairs, np.zeros(added, np.uint64))),
        np.concatenate((counts, np.zeros(added, np.uint64))),
        np.concatenate((sums, np.zeros(added, np.uint64))),
        np.concatenate((largest, np.zeros(added, np.uint8))),
        np.concatenate((histogram, np.zeros((added if len(histogram) else 0, 256), np.uint32))),
    )


@compiled
def _add_row(affinities, own, partners, table, used):  # type: ignore[no-untyped-def]
    """Add the contacts of a row of voxels to the table. Return the new number of used rows."""
    keys, rows, pairs, counts, sums, largest, histogram = table
    last_key, row = np.uint64(0), 0
    for x in range(len(own)):
        a, b = own[x], partners[x]
        if a == b or a == 0 or b == 0:
            continue
        key = (np.uint64(min(a, b)) << np.uint64(32)) | np.uint64(max(a, b))
        if key != last_key:
            at = _slot(keys, key)
            if keys[at] == np.uint64(0):
                keys[at], rows[at], pairs[used] = key, used, key
                used += 1
            last_key, row = key, rows[at]
        counts[row] += np.uint64(1)
        sums[row] += np.uint64(affinities[x])
        largest[row] = max(largest[row], affinities[x])
        if len(histogram):
            histogram[row, affinities[x]] += np.uint32(1)
    return used


@compiled
def _accumulate(affinities, dense, channels, steps, begin, with_bins):  # type: ignore[no-untyped-def]
    """Dense ids of both fragments of each edge, and count, sum, maximum and histogram of its affinities."""
    shape, room = np.array(affinities.shape[1:]), np.array(dense.shape)
    table, used = _new_table(with_bins), 0
    for n in range(len(channels)):
        # Voxels whose partner is also in the array.
        first = np.maximum(0, -(begin + steps[n]))
        last = np.maximum(first, np.minimum(shape, room - begin - steps[n]))
        x, end = first[2] + begin[2], last[2] + begin[2]
        dz, dy, dx = steps[n]
        for z in range(first[0], last[0]):
            for y in range(first[1], last[1]):
                own = dense[z + begin[0], y + begin[1], x:end]
                partners = dense[z + begin[0] + dz, y + begin[1] + dy, x + dx : end + dx]
                table = _with_room(table, used, len(own))
                used = _add_row(affinities[channels[n], z, y, first[2] : last[2]], own, partners, table, used)
    _, _, pairs, counts, sums, largest, histogram = table
    firsts = (pairs[:used] >> np.uint64(32)).astype(np.int64)
    seconds = (pairs[:used] & np.uint64(0xFFFFFFFF)).astype(np.int64)
    return firsts, seconds, counts[:used], sums[:used], largest[:used], histogram[:used]

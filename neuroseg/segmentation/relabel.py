"""Fragments of a block -> segments, by the lookup table."""

from __future__ import annotations

import fastremap
import numpy as np
from numpy.typing import NDArray

from neuroseg.kernels import compiled
from neuroseg.tables import Table, looked_up


def relabelled(fragments: NDArray[np.uint64], lookup: Table) -> NDArray[np.uint64]:
    """Return the segment `(z, y, x)` uint64 of each voxel. 0 if the fragment is 0 or not in `lookup`.

    `lookup` has the columns fragment (ascending) and segment.
    """
    ids = fastremap.unique(fragments)
    table = {int(old): int(new) for old, new in zip(ids, looked_up(ids, lookup), strict=True)}
    out: NDArray[np.uint64] = fastremap.remap(fragments, table, in_place=False)
    return out


def downsampled(labels: NDArray[np.uint64], factors: tuple[int, int, int]) -> NDArray[np.uint64]:
    """Return the most frequent label of each window of `factors` voxels, or the smallest of several.

    Windows at the end of an axis may be smaller. The array must start at a multiple of `factors` in the volume.
    """
    out: NDArray[np.uint64] = _least_of_most(labels, factors)
    return out


@compiled
def _least_of_most(labels, factors):  # type: ignore[no-untyped-def]
    depth, height, width = labels.shape
    fz, fy, fx = factors
    out = np.empty((-(-depth // fz), -(-height // fy), -(-width // fx)), np.uint64)
    window = np.empty(fz * fy * fx, np.uint64)
    for z in range(out.shape[0]):
        for y in range(out.shape[1]):
            for x in range(out.shape[2]):
                count = 0
                for i in range(z * fz, min(depth, (z + 1) * fz)):
                    for j in range(y * fy, min(height, (y + 1) * fy)):
                        for k in range(x * fx, min(width, (x + 1) * fx)):
                            window[count] = labels[i, j, k]
                            count += 1
                out[z, y, x] = _most_frequent(window[:count])
    return out


@compiled
def _most_frequent(labels):  # type: ignore[no-untyped-def]
    """The most frequent label, or the smallest of several."""
    best, best_count = labels[0], 0
    for label in labels:
        if label == best and best_count:
            continue
        count = 0
        for other in labels:
            count += other == label
        if count > best_count or (count == best_count and label < best):
            best, best_count = label, count
    return best

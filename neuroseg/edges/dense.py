"""Fragment ids -> dense numbers. Ids are voxel indices, which are too large as indices of tables."""

from __future__ import annotations

from typing import NamedTuple

import fastremap
import numpy as np
from numpy.typing import NDArray


class DenseFragments(NamedTuple):
    """Fragments `(z, y, x)` uint32 with numbers 1..n in any order (0 stays 0), and the id of each number `(n + 1,)`.

    `ids` may contain numbers that no voxel has.
    """

    numbers: NDArray[np.uint32]
    ids: NDArray[np.uint64]


def dense_fragments(fragments: NDArray[np.uint64]) -> DenseFragments:
    """Return the fragments `(z, y, x)` renumbered."""
    if fragments.size == 0:
        return DenseFragments(fragments.astype(np.uint32), np.zeros(1, np.uint64))
    numbers, mapping = fastremap.renumber(fragments, preserve_zero=True, in_place=False)
    ids = np.zeros(int(max(mapping.values(), default=0)) + 1, np.uint64)
    ids[np.fromiter(mapping.values(), np.int64, len(mapping))] = np.fromiter(mapping.keys(), np.uint64, len(mapping))
    ids[0] = 0
    return DenseFragments(numbers.astype(np.uint32, copy=False), ids)


def with_ids(fragments: DenseFragments, ids: NDArray[np.uint64]) -> DenseFragments:
    """Return the fragments with new `ids`, by number. Fragments with the same id are merged. 0 must stay 0."""
    if np.array_equal(ids, fragments.ids):
        return fragments
    unique, numbers = np.unique(ids, return_inverse=True)
    return DenseFragments(numbers.astype(np.uint32)[fragments.numbers], unique)

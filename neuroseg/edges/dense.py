"""Fragment ids -> small numbers, because voxel indices are too large to index tables by."""

from __future__ import annotations

import fastremap
import numpy as np
from numpy.typing import NDArray


def dense_fragments(fragments: NDArray[np.uint64]) -> tuple[NDArray[np.uint32], NDArray[np.uint64]]:
    """Return fragments renumbered 1..n in no order (0 stays 0), and the ids `(n + 1,)` by their new number."""
    if fragments.size == 0:
        return fragments.astype(np.uint32), np.zeros(1, np.uint64)
    dense, mapping = fastremap.renumber(fragments, preserve_zero=True, in_place=False)
    ids = np.zeros(int(max(mapping.values(), default=0)) + 1, np.uint64)
    ids[np.fromiter(mapping.values(), np.int64, len(mapping))] = np.fromiter(mapping.keys(), np.uint64, len(mapping))
    ids[0] = 0
    return dense.astype(np.uint32, copy=False), ids

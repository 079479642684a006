"""Labels with unconnected parts -> dense ids, one for each connected component."""

from __future__ import annotations

import fastremap
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

Ids = NDArray[np.int64]


def connected_labels(labels: NDArray[np.integer], min_voxels: int) -> NDArray[np.uint32]:
    """Return ids 1..N `(z, y, x)` of the face-connected components of equal labels. Label 0 is not background.

    A component of fewer than `min_voxels` voxels is merged with the neighbour that it touches most. A component without
    neighbours is kept.
    """
    if not labels.size:
        return np.zeros(labels.shape, np.uint32)
    runs, run_labels = _runs(labels)
    touching = _touching(runs)
    same = run_labels[touching[0]] == run_labels[touching[1]]
    component = _joined(touching[:, same], len(run_labels))
    contacts, sizes = component[touching[:, ~same]], np.bincount(component[runs.ravel()])
    # Contacts along x: consecutive runs of a row.
    ends = np.flatnonzero(runs.ravel()[1:] != runs.ravel()[:-1])
    ends = ends[(ends + 1) % labels.shape[-1] != 0]
    contacts = np.concatenate([contacts, component[runs.ravel()[np.stack([ends, ends + 1])]]], axis=1)
    component = _without_small(contacts, sizes, min_voxels)[component]
    dense, _ = fastremap.renumber(component.astype(np.uint32)[runs], preserve_zero=False)
    return dense.astype(np.uint32)


def _runs(labels: NDArray[np.integer]) -> tuple[Ids, NDArray[np.integer]]:
    """Return the number, from 0, of each voxel's run of equal labels along x, and each run's label."""
    starts = np.ones(labels.shape, bool)
    starts[..., 1:] = labels[..., 1:] != labels[..., :-1]
    runs = np.cumsum(starts.ravel(), dtype=np.int64).reshape(labels.shape) - 1
    return runs, labels[starts]


def _touching(runs: Ids) -> Ids:
    """Return the pairs `(2, n)` of runs of neighbouring rows that touch, along z and along y.

    Where two runs touch along several voxels, only the first contact is counted.
    """
    pairs = []
    for axis in (0, 1):
        here, there = np.moveaxis(runs, axis, 0)[:-1], np.moveaxis(runs, axis, 0)[1:]
        first = np.ones(here.shape, bool)
        first[..., 1:] = (here[..., 1:] != here[..., :-1]) | (there[..., 1:] != there[..., :-1])
        pairs.append(np.stack([here[first], there[first]]))
    return np.concatenate(pairs, axis=1)


def _joined(pairs: Ids, count: int) -> Ids:
    """Return the component number, from 0, of each of `count` nodes that are connected by `pairs` `(2, n)`."""
    edges = sparse.coo_array((np.ones(pairs.shape[1], np.int8), (pairs[0], pairs[1])), shape=(count, count))
    components: Ids = csgraph.connected_components(edges, directed=False)[1].astype(np.int64)
    return components


def _without_small(contacts: Ids, sizes: Ids, min_voxels: int) -> Ids:
    """Return the new component of each component after small ones are merged with their neighbours."""
    became = np.arange(len(sizes))
    while True:
        here, there = became[contacts]
        apart = here != there
        both_ways = np.concatenate([here[apart], there[apart]]), np.concatenate([there[apart], here[apart]])
        small = np.bincount(became, sizes)[both_ways[0]] < min_voxels
        keys, counts = np.unique(both_ways[0][small] * len(sizes) + both_ways[1][small], return_counts=True)
        if not len(keys):
            return became
        # Sort by contacts: the last assignment wins, so the neighbour with the most contacts is kept.
        by_count = keys[np.argsort(counts, kind="stable")]
        neighbour = np.arange(len(sizes))
        neighbour[by_count // len(sizes)] = by_count % len(sizes)
        became = _joined(np.stack([np.arange(len(sizes)), neighbour]), len(sizes))[became]

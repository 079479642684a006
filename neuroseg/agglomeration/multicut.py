"""The edge table -> a partition of the fragments by multicut (Kernighan-Lin) or greedy additive contraction (elf)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuroseg.agglomeration.names import GAEC
from neuroseg.agglomeration.scorings import Scoring
from neuroseg.agglomeration.tree import edge_scores
from neuroseg.tables import Table


def multicut_partition(
    fragments: NDArray[np.uint64], edges: Table, bins: Table, scoring: Scoring, *, threshold: float, method: str
) -> NDArray[np.int64]:
    """Return the part `(n,)` that each of `fragments` (ascending, unique) belongs to.

    An edge joins when its score p lies below `threshold` and holds apart above: its cost is
    log((1 - p) / p) + log((1 - beta) / beta) with beta = 1 - threshold, times its contacts over the most that an edge
    has. `method` is `gaec`, or `multicut`: Kernighan-Lin, begun at gaec's solution, as the paper's "LMC" (mean, beta
    0.5). `threshold` lies strictly between 0 and 1. Without edges every fragment is its own part.
    """
    if not len(edges["u"]):
        return np.arange(len(fragments))
    import bioimage_cpp
    from elf.segmentation import multicut

    solve = multicut.multicut_gaec if method == GAEC else multicut.multicut_kernighan_lin
    ends = np.stack([np.searchsorted(fragments, edges[end]) for end in ("u", "v")], axis=1).astype(np.uint64)
    costs = multicut.compute_edge_costs(
        edge_scores(edges, bins, scoring),
        edge_sizes=edges["contact_count"].astype(np.float64),
        beta=1 - threshold,
        weighting_scheme="all",
    )
    graph = bioimage_cpp.graph.UndirectedGraph.from_edges(len(fragments), ends)
    parts: NDArray[np.int64] = np.asarray(solve(graph, costs)).astype(np.int64)
    return parts

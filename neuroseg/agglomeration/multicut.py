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
    """Return the part `(n,)` of each of `fragments` (ascending, unique).

    An edge with score p below `threshold` attracts, above it repels. Its cost is
    log((1 - p) / p) + log((1 - beta) / beta) with beta = 1 - threshold, multiplied by its contacts divided by the
    largest number of contacts of an edge. `method`: `gaec`, or `multicut` (Kernighan-Lin, initialised with gaec, as
    "LMC" in the paper: mean, beta 0.5). 0 < `threshold` < 1. Without edges, every fragment is a part.
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

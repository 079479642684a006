"""The stages after prediction as functions of arrays in memory, for validation during training, notebooks and tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroseg.agglomeration.partition import segment_lookup
from neuroseg.agglomeration.scorings import Scoring
from neuroseg.agglomeration.tree import merge_tree
from neuroseg.edges.contacts import block_edges
from neuroseg.edges.dense import dense_fragments
from neuroseg.edges.nodes import block_nodes
from neuroseg.fragments.basins import block_fragments
from neuroseg.fragments.settings import BasinSettings
from neuroseg.geometry import Triple, triple, whole
from neuroseg.tables import Table, looked_up


@dataclass(frozen=True)
class InMemory:
    """Fragments and tables of a volume that fits in memory."""

    fragments: NDArray[np.uint64]
    nodes: Table
    edges: Table
    bins: Table

    def tree(self, scoring: Scoring) -> Table:
        """Return the merge tree for a scoring."""
        return merge_tree(self.edges, self.bins, scoring)

    def segmentation(self, scoring: Scoring, threshold: float) -> NDArray[np.uint64]:
        """Return the segments `(z, y, x)` uint64 with ids 1..N."""
        lookup = segment_lookup(self.tree(scoring), self.nodes, threshold=threshold)
        ids, rows = np.unique(self.fragments, return_inverse=True)
        return looked_up(ids, lookup)[rows].reshape(self.fragments.shape)


def fragments_and_tables(
    affinities: NDArray[np.uint8], offsets: tuple[Triple, ...], settings: BasinSettings, *, with_bins: bool = False
) -> InMemory:
    """Return fragments, nodes and edges of affinities `(c, z, y, x)` uint8. The volume is one block."""
    shape = triple(affinities.shape[1:])
    roi = whole(shape)
    fragments = block_fragments(
        affinities, offsets=offsets, read_roi=roi, write_roi=roi, bounds=roi, volume_shape=shape, settings=settings
    ).names
    dense = dense_fragments(fragments)
    edges, bins = block_edges(affinities, dense, offsets=offsets, read_roi=roi, write_roi=roi, with_bins=with_bins)
    return InMemory(fragments, block_nodes(dense, (0, 0, 0)), edges, bins)


def segmentation_of(
    affinities: NDArray[np.uint8],
    offsets: tuple[Triple, ...],
    settings: BasinSettings,
    *,
    scoring: Scoring,
    threshold: float,
) -> NDArray[np.uint64]:
    """Return the segmentation `(z, y, x)` uint64 of affinities in memory. A blockwise run stores the same ids."""
    made = fragments_and_tables(affinities, offsets, settings, with_bins=scoring.every_contact)
    return made.segmentation(scoring, threshold)

"""Long-range evidence is added to edges of touching fragments, and creates no new edges."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from neuroseg.agglomeration.evidence import with_evidence
from neuroseg.tables import BINS, EDGES, empty


def rows(table: dict[str, np.ndarray]) -> list[tuple[int, ...]]:
    return list(zip(*(column.tolist() for column in table.values()), strict=True))


def test_evidence_adds_to_edges_of_fragments_that_touch(tables_from: Callable) -> None:
    contacts, bins = tables_from({(1, 2): {10: 1}, (2, 5): {30: 2, 200: 1}, (5, 9): {7: 1}})
    far, far_bins = tables_from({(1, 2): {250: 2}, (1, 5): {255: 9}, (2, 5): {30: 1}, (3, 4): {1: 1}})
    edges = with_evidence(contacts, far, contacts, EDGES)
    assert rows(edges) == [(1, 2, 3, 510, 250), (2, 5, 4, 290, 200), (5, 9, 1, 7, 7)]
    histograms = with_evidence(bins, far_bins, contacts, BINS)
    assert rows(histograms) == [(1, 2, 10, 1), (1, 2, 250, 2), (2, 5, 30, 3), (2, 5, 200, 1), (5, 9, 7, 1)]


def test_no_evidence_and_no_contacts_change_nothing(tables_from: Callable) -> None:
    contacts, _ = tables_from({(1, 2): {10: 1}})
    assert rows(with_evidence(contacts, empty(EDGES), contacts, EDGES)) == rows(contacts)
    assert rows(with_evidence(empty(EDGES), contacts, empty(EDGES), EDGES)) == []

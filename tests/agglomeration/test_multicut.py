"""Multicut and gaec on small graphs: by hand, and compared with the best of all partitions."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from neuroseg.agglomeration.multicut import multicut_partition
from neuroseg.agglomeration.names import GAEC, MULTICUT
from neuroseg.agglomeration.scorings import parse_scoring
from neuroseg.tables import BINS, EDGES, empty

pytest.importorskip("elf")

MEAN = parse_scoring("mean")


def groups(parts: np.ndarray) -> list[int]:
    """The first node of each node's part."""
    return [parts.tolist().index(part) for part in parts.tolist()]


@pytest.mark.parametrize("method", [MULTICUT, GAEC])
def test_the_threshold_decides_which_edges_join(tables_from: Callable, method: str) -> None:
    edges, bins = tables_from({(1, 4): {204: 1}, (4, 6): {51: 1}, (6, 9): {128: 1}})
    ids = np.array([1, 4, 6, 9, 11], np.uint64)
    # Scores 0.2, 0.8 and just below one half; fragment 11 touches nothing.
    for threshold, expected in ((0.1, [0, 1, 2, 3, 4]), (0.5, [0, 0, 2, 2, 4]), (0.9, [0, 0, 0, 0, 4])):
        parts = multicut_partition(ids, edges, bins, MEAN, threshold=threshold, method=method)
        assert groups(parts) == expected, threshold


@pytest.mark.parametrize(("contacts", "expected"), [(30, [0, 0, 2]), (1, [0, 0, 0])])
def test_edges_are_weighted_by_their_contacts(tables_from: Callable, contacts: int, expected: list[int]) -> None:
    # 3 has a large, weakly attractive contact with 2. Its repulsion from 1 depends on the size of their contact.
    edges, bins = tables_from({(1, 2): {230: 30}, (2, 3): {140: 30}, (1, 3): {10: contacts}})
    parts = multicut_partition(np.array([1, 2, 3], np.uint64), edges, bins, MEAN, threshold=0.5, method=MULTICUT)
    assert groups(parts) == expected


@pytest.mark.parametrize("seed", range(5))
def test_multicut_is_near_the_best_of_all_partitions(graph_of: Callable, tables_from: Callable, seed: int) -> None:
    edges, bins = tables_from(graph_of(np.random.default_rng(seed), 6, 0.6, list(range(256))))
    ids = np.unique(np.concatenate([edges["u"], edges["v"]]))
    score = 1 - edges["affinity_sum"] / (255 * edges["contact_count"])
    shrunk = 0.998 * score + 0.001
    costs = np.log((1 - shrunk) / shrunk) * edges["contact_count"]

    def cut(parts: np.ndarray) -> float:
        u, v = np.searchsorted(ids, edges["u"]), np.searchsorted(ids, edges["v"])
        return float(costs[parts[u] != parts[v]].sum())

    found = {m: cut(multicut_partition(ids, edges, bins, MEAN, threshold=0.5, method=m)) for m in (MULTICUT, GAEC)}
    best = min(cut(np.array(parts)) for parts in itertools.product(range(len(ids)), repeat=len(ids)))
    assert best - 1e-6 <= found[MULTICUT] <= found[GAEC] + 1e-6
    assert found[MULTICUT] <= 0.8 * best + 1e-6


def test_without_edges_every_fragment_is_its_own_part() -> None:
    ids = np.array([3, 8], np.uint64)
    parts = multicut_partition(ids, empty(EDGES), empty(BINS), MEAN, threshold=0.5, method=MULTICUT)
    assert groups(parts) == [0, 1]

"""Two other orders of merges, as slow references: random, and in groups with a part of the graph.

Both merge only what the rule allows, so they prove that the tree does not depend on the order:

    at random    any pair of regions that are each other's least edge in (score, key)
    in groups    the same, where both regions are closed: the group holds every contact of all their fragments

An edge to a closed region is complete, because all contacts of that region are here; an edge between two open ones may
lack contacts that another group holds, and is never looked at before it is complete.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from neuroseg.agglomeration.scorings import Scoring
from tests.agglomeration.conftest import score_of

Pair = tuple[int, int]
Rank = tuple[float, Pair]
Row = tuple[int, int, float, Pair]


@dataclass
class RegionGraph:
    """Regions, named by their smallest fragment, and the pairs of fragments through which two of them touch.

    `edges[a, b][u, v]` counts the affinities of the contacts between fragments u and v, of the regions a < b.
    """

    edges: dict[Pair, dict[Pair, Counter[int]]] = field(default_factory=dict)

    def add(self, region_pair: Pair, fragment_pair: Pair, affinities: Counter[int]) -> None:
        """Add contacts between two regions."""
        a, b = sorted(region_pair)
        self.edges.setdefault((a, b), {}).setdefault(fragment_pair, Counter()).update(affinities)

    def merge(self, a: int, b: int) -> None:
        """Make region b part of region a < b."""
        del self.edges[a, b]
        for pair in [pair for pair in self.edges if b in pair]:
            other = pair[0] + pair[1] - b
            for fragment_pair, affinities in self.edges.pop(pair).items():
                self.add((a, other), fragment_pair, affinities)

    def least_edges(self, scoring: Scoring) -> list[tuple[Pair, Rank]]:
        """Return the edges that are the least in (score, key) of both regions that they join."""
        ranks = {pair: (score_of(list(held.values()), scoring), max(held)) for pair, held in self.edges.items()}
        least: dict[int, Pair] = {}
        for pair in sorted(ranks, key=ranks.__getitem__, reverse=True):
            least[pair[0]] = least[pair[1]] = pair
        return [(pair, rank) for pair, rank in ranks.items() if least[pair[0]] == least[pair[1]] == pair]


def region_graph(histograms: dict[Pair, dict[int, int]]) -> RegionGraph:
    """Return the graph in which every fragment is a region."""
    graph = RegionGraph()
    for pair, affinities in histograms.items():
        graph.add(pair, pair, Counter(affinities))
    return graph


def merged_at_random(graph: RegionGraph, scoring: Scoring, rng: np.random.Generator) -> list[Row]:
    """Merge pairs of regions that are each other's least edge, chosen at random, until none is left."""
    return _merged(graph, scoring, rng, closed=None)


def _merged(graph: RegionGraph, scoring: Scoring, rng: np.random.Generator, closed: set[int] | None) -> list[Row]:
    """Merge while two regions, both in `closed` unless it is None, are each other's least edge."""
    rows: list[Row] = []
    while True:
        allowed = [row for row in graph.least_edges(scoring) if closed is None or closed.issuperset(row[0])]
        if not allowed:
            return rows
        (a, b), (score, key) = allowed[rng.integers(len(allowed))]
        rows.append((a, b, score, key))
        graph.merge(a, b)


@dataclass
class Group:
    """A group of blocks: a part of the contacts, and the number of contacts of each fragment."""

    graph: RegionGraph = field(default_factory=RegionGraph)
    contacts: Counter[int] = field(default_factory=Counter)

    def add_contacts(self, pair: Pair, affinities: Counter[int]) -> None:
        """Add contacts of two fragments."""
        self.graph.add(pair, pair, affinities)
        for fragment in pair:
            self.contacts[fragment] += affinities.total()


def together(groups: Iterable[Group]) -> Group:
    """Return the union of several groups. Parts of an edge are added."""
    joined = Group()
    for group in groups:
        joined.contacts.update(group.contacts)
        for pair, held in group.graph.edges.items():
            for fragment_pair, affinities in held.items():
                joined.graph.add(pair, fragment_pair, affinities)
    return joined


def merged_in_groups(groups: list[Group], scoring: Scoring, rng: np.random.Generator) -> tuple[list[Row], list[int]]:
    """Merge what is closed within each group, join groups by two or three at random, and so on to the last one.

    Returns the rows of all groups and how many each round gave.
    """
    total: Counter[int] = Counter()
    for group in groups:
        total.update(group.contacts)
    rows: list[Row] = []
    rounds: list[int] = []
    while True:
        before = len(rows)
        for group in groups:
            # A region is named by one of its fragments. Only closed regions merge, so this fragment represents all.
            closed = {fragment for fragment, count in group.contacts.items() if count == total[fragment]}
            rows += _merged(group.graph, scoring, rng, closed)
        rounds.append(len(rows) - before)
        if len(groups) == 1:
            return rows, rounds
        order, width = rng.permutation(len(groups)).tolist(), int(rng.integers(2, 4))
        groups = [together(groups[n] for n in order[at : at + width]) for at in range(0, len(order), width)]

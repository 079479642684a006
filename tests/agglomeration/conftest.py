"""Tables from rows, random graphs, and a slow greedy agglomeration as a reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from neuroseg.agglomeration import tree
from neuroseg.agglomeration.scorings import MEAN, Scoring
from neuroseg.tables import BINS, EDGES, NODES, Table, empty

Histograms = dict[tuple[int, int], dict[int, int]]


def tables_of(histograms: Histograms) -> tuple[Table, Table]:
    """Return the edge and bin tables of a graph: pair -> affinity -> number of contacts."""
    pairs = sorted(histograms)
    edges, bins = empty(EDGES), empty(BINS)
    if pairs:
        values = [[a for a, n in histograms[pair].items() for _ in range(n)] for pair in pairs]
        columns = [*zip(*pairs, strict=True), map(len, values), map(sum, values), map(max, values)]
        edges = {name: np.array(list(column), EDGES[name]) for name, column in zip(EDGES, columns, strict=True)}
        rows = [(*pair, b, histograms[pair][b]) for pair in pairs for b in sorted(histograms[pair])]
        bins = {name: np.array(c, BINS[name]) for name, c in zip(BINS, zip(*rows, strict=True), strict=True)}
    return edges, bins


def nodes_of(sizes: dict[int, int]) -> Table:
    """Return the columns of a node table that a lookup reads. Argument: fragment -> voxels."""
    return {
        "fragment": np.array(sorted(sizes), NODES["fragment"]),
        "voxel_count": np.array([sizes[f] for f in sorted(sizes)], NODES["voxel_count"]),
    }


def score_of(edges: list[dict[int, int]], scoring: Scoring) -> float:
    """One minus the statistic of the fragment edges between two regions."""
    if scoring.percent == MEAN or scoring.every_contact:
        values = sorted(a for edge in edges for a, n in edge.items() for _ in range(n))
    else:
        values = sorted(max(edge) for edge in edges)
    if scoring.percent == MEAN:
        return 1.0 - float(sum(values)) / (255.0 * len(values))
    # The pivot counts from one.
    return 1.0 - (values[scoring.percent * len(values) // 100] + 0.5) / 256.0


def greedy(histograms: Histograms, scoring: Scoring, threshold: float = np.inf) -> tuple[list[tuple], list[set[int]]]:
    """Merge the least pair of regions by (score, largest fragment pair) until none is below `threshold`.

    Everything is looked up afresh at every step. Returns the rows (a, b, score) and the regions of the graph.
    """
    regions = [{f} for f in sorted({f for pair in histograms for f in pair})]
    rows = []
    while True:
        region_of = {f: n for n, region in enumerate(regions) for f in region}
        between: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for u, v in histograms:
            one, other = sorted((region_of[u], region_of[v]))
            if one != other:
                between.setdefault((one, other), []).append((u, v))
        candidates = [
            (score_of([histograms[pair] for pair in pairs], scoring), max(pairs), regions[one], regions[other])
            for (one, other), pairs in between.items()
        ]
        if not candidates:
            return rows, regions
        score, _, one, other = min(candidates, key=lambda candidate: candidate[:2])
        if score >= threshold:
            return rows, regions
        rows.append((min(min(one), min(other)), max(min(one), min(other)), score))
        regions = [region for region in regions if region not in (one, other)] + [one | other]


def random_graph(
    rng: np.random.Generator, nodes: int, density: float, affinities: list[int], most_contacts: int = 3
) -> Histograms:
    """Return a graph of `nodes` sparse ids. Contacts have few different affinities, so there are many ties."""
    ids = sorted(rng.choice(2**40, nodes, replace=False).tolist())
    graph: Histograms = {}
    for n, u in enumerate(ids):
        for v in ids[n + 1 :]:
            if rng.random() < density:
                drawn = rng.choice(affinities, rng.integers(1, most_contacts + 1)).tolist()
                graph[u + 1, v + 1] = {a: drawn.count(a) for a in set(drawn)}
    return graph


@pytest.fixture(params=[(tree._HUB_EDGES, tree._WIDTH), (3, 5), (1, 1)], ids=["lists", "hubs", "all-hubs"])
def kernels(request: pytest.FixtureRequest) -> Iterator[None]:
    """Merge lists, as small graphs do, or make small regions hubs, in small ranges first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree, "_HUB_EDGES", request.param[0])
        patch.setattr(tree, "_WIDTH", request.param[1])
        yield


@pytest.fixture(scope="session")
def tables_from() -> Callable[[Histograms], tuple[Table, Table]]:
    """`tables_of`."""
    return tables_of


@pytest.fixture(scope="session")
def nodes_from() -> Callable[[dict[int, int]], Table]:
    """`nodes_of`."""
    return nodes_of


@pytest.fixture(scope="session")
def slow_greedy() -> Callable[..., tuple[list[tuple], list[set[int]]]]:
    """`greedy`."""
    return greedy


@pytest.fixture(scope="session")
def graph_of() -> Callable[..., Histograms]:
    """`random_graph`."""
    return random_graph

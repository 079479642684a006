"""The merge tree does not depend on the order of merges or edges, or on how the graph is divided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from neuroseg.agglomeration.scorings import parse_scoring
from neuroseg.agglomeration.tree import merge_tree
from neuroseg.blocks import whole_lattice
from neuroseg.edges.contacts import block_edges
from neuroseg.edges.dense import dense_fragments
from neuroseg.geometry import Triple, slices
from neuroseg.tables import BINS, EDGES, Table, combined
from tests.agglomeration.orders import Group, Row, merged_at_random, merged_in_groups, region_graph

SCORINGS = ["mean", "quantile:50", "quantile:50:all", "quantile:25", "quantile:75:all"]
OFFSETS: tuple[Triple, ...] = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
# One affinity, three, and all: ties everywhere, many, and some.
AFFINITIES = ([7], [0, 128, 255], list(range(256)))


def rows_of(tree: Table) -> list[Row]:
    """The rows (a, b, score, key) of a tree."""
    columns = [tree[name].tolist() for name in ("a", "b", "score", "u", "v")]
    return [(a, b, score, (u, v)) for a, b, score, u, v in zip(*columns, strict=True)]


def by_rank(rows: list[Row]) -> list[Row]:
    """The rows in the order of global greedy merging."""
    return sorted(rows, key=lambda row: row[2:])


def graphs_of(graph_of_seed: Callable, count: int) -> list:
    """Random graphs of 2 to 14 fragments, sparse to complete, with many ties."""
    drawn = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        density, affinities = float(rng.choice([0.15, 0.4, 1.0])), AFFINITIES[seed % len(AFFINITIES)]
        drawn.append((rng, graph_of_seed(rng, int(rng.integers(2, 15)), density, affinities)))
    return drawn


@pytest.mark.parametrize("scoring", SCORINGS)
def test_merging_reciprocal_least_edges_at_random_gives_the_same_tree(
    graph_of: Callable, tables_from: Callable, scoring: str
) -> None:
    parsed, merges = parse_scoring(scoring), 0
    for rng, histograms in graphs_of(graph_of, 120):
        rows = rows_of(merge_tree(*tables_from(histograms), parsed))
        assert by_rank(rows) == rows, "greedy merging goes by rank"
        assert by_rank(merged_at_random(region_graph(histograms), parsed, rng)) == rows
        merges += len(rows)
    assert merges > 500


@pytest.mark.parametrize("scoring", SCORINGS)
def test_shuffled_edges_give_the_same_tree(graph_of: Callable, tables_from: Callable, scoring: str) -> None:
    for rng, histograms in graphs_of(graph_of, 40):
        edges, bins = tables_from(histograms)
        expected = merge_tree(edges, bins, parse_scoring(scoring))
        shuffled = [shuffled_parts(table, columns, rng) for table, columns in ((edges, EDGES), (bins, BINS))]
        found = merge_tree(shuffled[0], shuffled[1], parse_scoring(scoring))
        for name, column in expected.items():
            np.testing.assert_array_equal(found[name], column)


def shuffled_parts(table: Table, columns: dict, rng: np.random.Generator) -> Table:
    """The table from parts of one row each, in random order."""
    order = rng.permutation(len(table["u"]))
    return combined([{name: column[row : row + 1] for name, column in table.items()} for row in order], columns)


@pytest.mark.parametrize("scoring", SCORINGS)
def test_merging_in_random_groups_gives_the_same_tree(graph_of: Callable, tables_from: Callable, scoring: str) -> None:
    parsed, early = parse_scoring(scoring), 0
    for rng, histograms in graphs_of(graph_of, 120):
        groups = [Group() for _ in range(int(rng.integers(1, 7)))]
        # Neighbours in id lie in one group, as neighbours in space do; some contacts of a pair lie elsewhere.
        fragments = sorted({fragment for pair in histograms for fragment in pair})
        for pair, affinities in histograms.items():
            for affinity in Counter(affinities).elements():
                home = fragments.index(pair[0]) * len(groups) // len(fragments)
                at = home if rng.random() < 0.8 else int(rng.integers(len(groups)))
                groups[at].add_contacts(pair, Counter([affinity]))
        rows, rounds = merged_in_groups(groups, parsed, rng)
        assert by_rank(rows) == rows_of(merge_tree(*tables_from(histograms), parsed))
        early += sum(rounds[:-1])
    assert early > 40, "the groups before the last have merged something"


@pytest.mark.parametrize("scoring", SCORINGS)
@pytest.mark.parametrize("seed", range(3))
def test_merging_block_by_block_gives_the_tree_of_the_volume(scoring: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (8, 10, 12)
    fragments = random_fragments(rng, shape, 40)
    affinities = rng.choice(AFFINITIES[1], (3, *shape)).astype(np.uint8)
    edges, bins = edges_of(affinities, fragments, shape)
    expected = rows_of(merge_tree(edges[0], bins[0], parse_scoring(scoring)))
    edges, bins = edges_of(affinities, fragments, (4, 5, 6))
    assert len(edges) == 8
    rows, rounds = merged_in_groups([group_of(part) for part in bins], parse_scoring(scoring), rng)
    assert by_rank(rows) == expected
    assert len(rounds) > 1


def random_fragments(rng: np.random.Generator, shape: Triple, count: int) -> NDArray[np.uint64]:
    """Each voxel belongs to the nearest of `count` random points."""
    points = rng.random((count, 3)) * shape
    voxels = np.moveaxis(np.indices(shape), 0, -1)[..., None, :]
    nearest: NDArray[np.uint64] = ((voxels - points) ** 2).sum(-1).argmin(-1).astype(np.uint64) + np.uint64(1)
    return nearest


def edges_of(affinities: NDArray[np.uint8], fragments: NDArray[np.uint64], block: Triple) -> tuple[list, list]:
    """The parts of edge table and histograms, one per block."""
    edges, bins = [], []
    for cell in whole_lattice(fragments.shape, block).blocks((1, 1, 1)):
        made = block_edges(
            affinities[(slice(None), *slices(cell.write_roi))],
            dense_fragments(fragments[slices(cell.read_roi)]),
            offsets=OFFSETS,
            read_roi=cell.read_roi,
            write_roi=cell.write_roi,
            with_bins=True,
        )
        edges.append(made[0])
        bins.append(made[1])
    return edges, bins


def group_of(bins: Table) -> Group:
    """The group of one block, from its histograms."""
    group = Group()
    for u, v, affinity, count in zip(*(bins[name].tolist() for name in BINS), strict=True):
        group.add_contacts((u, v), Counter({affinity: count}))
    return group

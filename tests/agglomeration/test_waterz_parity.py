"""Mean agglomeration against waterz, on affinities without ties."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from neuroseg.agglomeration.partition import segment_lookup
from neuroseg.agglomeration.scorings import parse_scoring
from neuroseg.agglomeration.tree import merge_tree
from neuroseg.tables import Table

waterz = pytest.importorskip("waterz")

MEAN = "OneMinus<MeanAffinity<RegionGraphType, ScoreValue>>"
SHAPE = (14, 18, 20)


def cells(rng: np.random.Generator, count: int) -> NDArray[np.uint64]:
    """Fragments 1..count: each voxel belongs to the nearest of `count` random points."""
    points = np.zeros(SHAPE, np.uint64)
    points.ravel()[rng.choice(points.size, count, replace=False)] = np.arange(1, count + 1)
    nearest = distance_transform_edt(points == 0, return_distances=False, return_indices=True)
    return points[tuple(nearest)]


def float_edges(affinities: NDArray[np.float32], fragments: NDArray[np.uint64]) -> Table:
    """An edge table whose affinity_sum is 255 times the sum of float affinities in [0, 1]."""
    sums: dict[tuple[int, int], list[float]] = {}
    for axis in range(3):
        upper = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
        lower = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
        for u, v, affinity in zip(
            fragments[lower].ravel().tolist(),
            fragments[upper].ravel().tolist(),
            affinities[axis][upper].astype(np.float64).ravel().tolist(),
            strict=True,
        ):
            if u != v:
                sums.setdefault((min(u, v), max(u, v)), []).append(affinity)
    pairs = sorted(sums)
    return {
        "u": np.array([pair[0] for pair in pairs], np.uint64),
        "v": np.array([pair[1] for pair in pairs], np.uint64),
        "contact_count": np.array([len(sums[pair]) for pair in pairs], np.uint64),
        "affinity_sum": np.array([255 * sum(sums[pair]) for pair in pairs], np.float64),
        "affinity_max": np.zeros(len(pairs), np.uint8),
    }


def partition(fragments: NDArray[np.uint64], segments: NDArray[np.uint64], count: int) -> list[int]:
    """The smallest fragment of the segment that each fragment 1..count lies in."""
    flat_fragments, flat_segments = fragments.ravel(), segments.ravel()
    segment_of = np.zeros(count + 1, np.uint64)
    segment_of[flat_fragments] = flat_segments
    assert (segment_of[flat_fragments] == flat_segments).all()
    smallest: dict[int, int] = {}
    return [smallest.setdefault(int(segment_of[f]), f) for f in range(1, count + 1)]


@pytest.mark.parametrize("seed", range(4))
def test_mean_equals_waterz_at_every_threshold(nodes_from: Callable, seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = 120
    fragments = cells(rng, count)
    affinities = rng.random((3, *SHAPE)).astype(np.float32)
    tree = merge_tree(float_edges(affinities, fragments), {}, parse_scoring("mean"))
    assert len(tree["a"]) == count - 1
    nodes = nodes_from(dict.fromkeys(range(1, count + 1), 1))
    # Halfway between neighbouring scores, so that every partition the tree holds is asked for once.
    gaps = np.diff(tree["score"])
    thresholds = (tree["score"][:-1] + gaps / 2)[gaps > 1e-5].tolist()
    assert len(thresholds) > 100
    compared = 0
    # waterz writes into the fragments it is given.
    theirs = waterz.agglomerate(affinities, thresholds, None, fragments.copy(), scoring_function=MEAN)
    for threshold, segments in zip(thresholds, theirs, strict=True):
        lookup = segment_lookup(tree, nodes, threshold=threshold)
        ours = lookup["segment"][fragments.astype(np.int64) - 1]
        assert partition(fragments, ours, count) == partition(fragments, segments, count), threshold
        compared += 1
    assert compared == len(thresholds)

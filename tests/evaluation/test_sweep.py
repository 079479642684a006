"""Scores of a sweep equal those of relabeled volumes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from neuroseg.agglomeration.partition import segment_lookup
from neuroseg.agglomeration.scorings import parse_scoring
from neuroseg.agglomeration.tree import merge_tree
from neuroseg.edges.contacts import block_edges
from neuroseg.edges.dense import dense_fragments
from neuroseg.edges.nodes import block_nodes
from neuroseg.evaluation.contingency import contingency
from neuroseg.evaluation.metrics import scores_of
from neuroseg.evaluation.sweep import THRESHOLDS, looked_up, sweep
from neuroseg.geometry import whole

OFFSETS = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))


def volume(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint64], NDArray[np.uint64]]:
    """Affinities, fragments of sparse ids with background, and a truth of larger boxes with ignored voxels."""
    rng = np.random.default_rng(seed)
    ids = np.append(0, rng.choice(10**9, 70, replace=False) + 1).astype(np.uint64)
    fragments = ids[rng.integers(0, len(ids), (6, 8, 10))]
    fragments = np.repeat(np.repeat(fragments, 2, 1), 2, 2)
    truth = np.repeat(np.repeat(rng.integers(0, 9, (6, 4, 5)), 4, 1), 4, 2).astype(np.uint64)
    # High affinities are rare, so the largest ones differ between pairs.
    affinities = (rng.random((3, *fragments.shape)) ** 4 * 256).astype(np.uint8)
    return affinities, fragments, truth


def relabeled(fragments: NDArray[np.uint64], lookup: dict) -> NDArray[np.uint64]:  # type: ignore[type-arg]
    """Each voxel's segment, by a dictionary."""
    table = dict(zip(lookup["fragment"].tolist(), lookup["segment"].tolist(), strict=True))
    return np.array([table.get(f, 0) for f in fragments.ravel().tolist()], np.uint64).reshape(fragments.shape)


@pytest.mark.parametrize(("min_size", "small"), [(0, "merge"), (20, "merge"), (20, "drop")])
@pytest.mark.parametrize("scoring", ["mean", "quantile:50"])
def test_the_sweep_equals_relabeling_at_each_threshold(scoring: str, min_size: int, small: str) -> None:
    affinities, fragments, truth = volume(0)
    roi = whole(fragments.shape)
    edges, bins = block_edges(affinities, dense_fragments(fragments), offsets=OFFSETS, read_roi=roi, write_roi=roi)
    tree, nodes = merge_tree(edges, bins, parse_scoring(scoring)), block_nodes(dense_fragments(fragments), (0, 0, 0))
    thresholds = [0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 1.0]
    found = sweep(tree, nodes, contingency(fragments, truth), thresholds, min_size_voxels=min_size, small=small)
    assert [threshold for threshold, _ in found] == thresholds
    for threshold, scores in found:
        lookup = segment_lookup(tree, nodes, threshold=threshold, min_size_voxels=min_size, small=small)
        expected = scores_of(contingency(relabeled(fragments, lookup), truth))
        assert scores.as_dict() == pytest.approx(expected.as_dict(), abs=1e-12)
    assert len({scores.voi_split for _, scores in found}) > 2


def test_the_sweep_goes_from_two_to_ninety_eight_hundredths() -> None:
    assert THRESHOLDS.tolist() == [n / 100 for n in range(2, 100, 2)]


def test_fragments_the_lookup_does_not_list_are_segment_zero() -> None:
    lookup = {"fragment": np.array([3, 7], np.uint64), "segment": np.array([1, 2], np.uint64)}
    assert looked_up(np.array([0, 3, 5, 7, 9], np.uint64), lookup).tolist() == [0, 1, 0, 2, 0]
    nothing = {"fragment": np.zeros(0, np.uint64), "segment": np.zeros(0, np.uint64)}
    assert looked_up(np.array([0, 3], np.uint64), nothing).tolist() == [0, 0]

"""Compare the agglomeration with waterz, on random, FIB-25 and gala affinities.

1. On float affinities without ties the mean's partition is waterz', at every threshold.
2. On uint8 affinities quantiles tie all the time. With waterz' order of ties, emulated, our statistics give its
   partition, at every threshold.
3. With our order of ties we differ from waterz. So does waterz from itself, once its fragments have other numbers: the
   test prints both distances (pytest -s), variation of information in bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from neuroseg.agglomeration.scorings import parse_scoring
from neuroseg.agglomeration.tree import merge_tree
from neuroseg.evaluation.contingency import CONTINGENCY
from neuroseg.evaluation.metrics import scores_of
from neuroseg.tables import combined
from tests.agglomeration.bin_queue import emulated_partitions
from tests.agglomeration.volumes import (
    VOLUMES,
    Volume,
    dithered,
    float_edges,
    partition,
    segments_of,
    volume_called,
)

waterz = pytest.importorskip("waterz")

MEAN = "OneMinus<MeanAffinity<RegionGraphType, ScoreValue>>"
# Every partition of a random volume in the quick run, those of real ones in the long one.
QUICK_FIRST = [pytest.param(name, marks=[] if name == "random" else [pytest.mark.long]) for name in VOLUMES]
QUANTILES = ["quantile:25", "quantile:50", "quantile:50:all", "quantile:75"]


def quantile_function(scoring: str) -> str:
    """waterz' name of a quantile scoring."""
    parsed = parse_scoring(scoring)
    init = "false" if parsed.every_contact else "true"
    return f"OneMinus<HistogramQuantileAffinity<RegionGraphType, {parsed.percent}, ScoreValue, 256, {init}>>"


def waterz_segments(
    affinities: NDArray[np.float32], volume: Volume, thresholds: Sequence[float], function: str, bins: int
) -> Iterator[NDArray[np.uint64]]:
    """The segment of each of waterz' fragments 1..n, at ascending thresholds."""
    _, first = np.unique(volume.fragments, return_index=True)
    # waterz writes into the fragments that it is given.
    made = waterz.agglomerate(
        affinities, thresholds, None, volume.fragments.copy(), scoring_function=function, discretize_queue=bins
    )
    return (segments.ravel()[first] for segments in made)


@pytest.fixture(scope="module")
def volume(request: pytest.FixtureRequest) -> Volume:
    """The volume of that name; real ones skip where there is no data."""
    folder = Path() if request.param == "random" else request.getfixturevalue("data_folder")
    return volume_called(request.param, folder)


@pytest.mark.parametrize("volume", QUICK_FIRST, indirect=True)
def test_mean_equals_waterz_at_every_threshold(volume: Volume) -> None:
    affinities = dithered(volume.affinities)
    tree = merge_tree(float_edges(affinities, volume), {}, parse_scoring("mean"))
    assert len(tree["a"]) == volume.count - 1 > 100
    # Halfway between neighbouring scores, so that every partition the tree holds is asked for once; waterz' means are
    # float32, so scores closer than its rounding cannot be told apart.
    gaps = np.diff(tree["score"])
    thresholds = (tree["score"][:-1] + gaps / 2)[gaps > 1e-6]
    assert len(thresholds) > 0.9 * len(gaps)
    theirs = waterz_segments(affinities, volume, thresholds.tolist(), MEAN, 0)
    for threshold, segments in zip(thresholds, theirs, strict=True):
        ours = segments_of(tree, volume.count, threshold)
        np.testing.assert_array_equal(partition(ours), partition(segments), f"threshold {threshold}")


@pytest.mark.parametrize("volume", QUICK_FIRST, indirect=True)
@pytest.mark.parametrize("scoring", QUANTILES)
def test_with_the_ties_of_waterz_quantiles_equal_it_at_every_threshold(volume: Volume, scoring: str) -> None:
    affinities = volume.affinities.astype(np.float32) / 255
    thresholds = [(score + 1) / 256 for score in range(256)]
    theirs = waterz_segments(affinities, volume, thresholds, quantile_function(scoring), 256)
    ours = emulated_partitions(volume.edges, volume.bins, volume.count, parse_scoring(scoring), thresholds)
    regions = []
    for threshold, roots, segments in zip(thresholds, ours, theirs, strict=True):
        np.testing.assert_array_equal(partition(roots), partition(segments), f"threshold {threshold}")
        regions.append(len(np.unique(roots)))
    assert regions[-1] == 1
    assert len(set(regions)) > 25


@pytest.mark.parametrize("volume", QUICK_FIRST, indirect=True)
@pytest.mark.parametrize("scoring", ["mean", *QUANTILES])
def test_the_difference_to_waterz_is_about_its_own_variation(
    volume: Volume, scoring: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    parsed = parse_scoring(scoring)
    affinities = volume.affinities.astype(np.float32) / 255
    sizes = np.bincount(volume.fragments.ravel())[1:].astype(np.uint64)
    thresholds = [step / 10 for step in range(1, 10)]
    function, bins = (MEAN, 0) if scoring == "mean" else (quantile_function(scoring), 256)
    theirs = list(waterz_segments(affinities, volume, thresholds, function, bins))

    def distance(segmentations: Iterable[NDArray[np.uint64]]) -> float:
        """The variation of information to waterz, in bits, averaged over the thresholds."""
        pairs = zip(segmentations, theirs, strict=True)
        tables = [{"segment": one, "truth": other, "count": sizes} for one, other in pairs]
        return float(np.mean([scores_of(combined([table], CONTINGENCY)).voi_sum for table in tables]))

    tree = merge_tree(volume.edges, volume.bins, parsed)
    ours = distance(segments_of(tree, volume.count, threshold) for threshold in thresholds)
    itself = []
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(volume.count)
        relabelled = replace(volume, fragments=(order.astype(np.uint64) + np.uint64(1))[volume.fragments - 1])
        segmentations = waterz_segments(affinities, relabelled, thresholds, function, bins)
        itself.append(distance(segments[order] for segments in segmentations))
    with capsys.disabled():
        name = request.node.callspec.params["volume"]
        print(f"\n{name:>8} {scoring:>16}: {ours:.3f} bits from waterz; waterz from itself {_listed(itself)}")
    assert ours <= 1.5 * max(itself) + 0.01


def _listed(values: Sequence[float]) -> str:
    return " ".join(f"{value:.3f}" for value in sorted(values))

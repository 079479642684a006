"""Variation of information and adapted Rand error: by hand, against two libraries, and on real labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from neuroseg.errors import InputError
from neuroseg.evaluation.contingency import contingency
from neuroseg.evaluation.metrics import Scores, scores_of

Labels = NDArray[np.uint64]


def scores_between(segments: Labels, truth: Labels, ignore: tuple[int, ...] = (0,)) -> Scores:
    """The scores of two label arrays."""
    return scores_of(contingency(segments, truth, ignore))


def test_a_perfect_segmentation_scores_zero_for_any_ids() -> None:
    truth = np.array([1, 1, 2, 3, 3, 3], np.uint64)
    assert scores_between(truth * np.uint64(7) + np.uint64(1), truth).as_dict() == {
        "voi_split": 0, "voi_merge": 0, "voi_sum": 0, "arand": 0
    }  # fmt: skip


def test_an_object_cut_in_half_is_one_bit_of_split() -> None:
    found = scores_between(np.array([1, 1, 2, 2], np.uint64), np.array([5, 5, 5, 5], np.uint64))
    assert (found.voi_split, found.voi_merge, found.voi_sum) == (1, 0, 1)
    # precision 1, recall 1/2: F = 2/3
    assert found.arand == pytest.approx(1 / 3)


def test_two_objects_in_one_segment_are_one_bit_of_merge() -> None:
    found = scores_between(np.array([5, 5, 5, 5], np.uint64), np.array([1, 1, 2, 2], np.uint64))
    assert (found.voi_split, found.voi_merge, found.voi_sum) == (0, 1, 1)
    assert found.arand == pytest.approx(1 / 3)


def test_a_quarter_lost_to_a_neighbour() -> None:
    # truth 1 1 1 1 2 2 2 2 against segments 1 1 1 2 2 2 2 2: pairs 3, 1, 4 of 8
    found = scores_between(np.array([1, 1, 1, 2, 2, 2, 2, 2]), np.array([1, 1, 1, 1, 2, 2, 2, 2]))
    entropy = -(3 / 4 * np.log2(3 / 4) + 1 / 4 * np.log2(1 / 4))
    assert found.voi_split == pytest.approx(entropy / 2)
    assert found.voi_merge == pytest.approx(5 / 8 * -(1 / 5 * np.log2(1 / 5) + 4 / 5 * np.log2(4 / 5)))
    assert found.arand == pytest.approx(1 - 2 * (9 + 1 + 16) / ((9 + 25) + (16 + 16)))


def test_ignored_truth_does_not_count() -> None:
    segments, truth = np.array([1, 1, 2, 3, 9, 4]), np.array([5, 5, 5, 0, 0, 0])
    assert scores_between(segments, truth) == scores_between(segments[:3], truth[:3])


def test_unsegmented_voxels_are_one_segment() -> None:
    # Background of the segmentation is a segment: two objects in it count as merged.
    assert scores_between(np.array([0, 0, 0, 0]), np.array([1, 1, 2, 2])).voi_merge == 1


def test_nothing_to_compare_is_an_error_not_a_perfect_score() -> None:
    with pytest.raises(InputError, match="nothing to compare"):
        scores_between(np.ones(4, np.uint64), np.zeros(4, np.uint64))


label_arrays = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12))


def random_labels(seed: int, segments: int, truths: int) -> tuple[Labels, Labels]:
    """Two label arrays that agree in part. The truth contains 0."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, truths + 1, (6, 7, 8)).astype(np.uint64)
    noise = rng.integers(0, segments + 1, truth.shape).astype(np.uint64)
    return np.where(rng.random(truth.shape) < 0.5, truth, noise), truth


@settings(max_examples=40)
@given(label_arrays, st.sampled_from([(0,), (), (0, 1)]))
def test_scores_equal_scikit_images(drawn: tuple[int, int, int], ignore: tuple[int, ...]) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    segments, truth = random_labels(*drawn)
    truth[0, 0, 0] = 2  # at least one voxel to compare
    found = scores_between(segments, truth, ignore)
    split, merge = metrics.variation_of_information(
        truth.astype(np.int64), segments.astype(np.int64), ignore_labels=ignore
    )
    assert (found.voi_split, found.voi_merge) == (pytest.approx(split, abs=1e-9), pytest.approx(merge, abs=1e-9))
    # scikit-image counts pairs of different voxels, we (with elf and CREMI) pairs with repetition.
    rows = contingency(segments, truth, ignore)
    counts = rows["count"].astype(float)
    voxels = counts.sum()
    sums = [np.bincount(np.unique(rows[name], return_inverse=True)[1], counts) for name in ("segment", "truth")]
    pairs, *both = ((c**2).sum() - voxels for c in (counts, *sums))
    if min(pairs, *both) > 0:
        error, _, _ = metrics.adapted_rand_error(
            truth.astype(np.int64), segments.astype(np.int64), ignore_labels=ignore
        )
        assert 1 - 2 * pairs / sum(both) == pytest.approx(error)
        assert found.arand == pytest.approx(1 - 2 * (pairs + voxels) / (sum(both) + 2 * voxels))


@settings(max_examples=40)
@given(label_arrays)
def test_scores_equal_elfs(drawn: tuple[int, int, int]) -> None:
    evaluation = pytest.importorskip("elf.evaluation")
    segments, truth = random_labels(*drawn)
    truth[0, 0, 0] = 1
    found = scores_between(segments, truth)
    split, merge = evaluation.variation_of_information(segments, truth, ignore_gt=[0])
    error, _ = evaluation.rand_index(segments, truth, ignore_gt=[0])
    assert (found.voi_split, found.voi_merge) == (pytest.approx(split, abs=1e-9), pytest.approx(merge, abs=1e-9))
    assert found.arand == pytest.approx(error, abs=1e-9)


def test_real_supervoxels_score_as_elf_scores_them(data_folder: Path) -> None:
    h5py = pytest.importorskip("h5py")
    evaluation = pytest.importorskip("elf.evaluation")
    with h5py.File(data_folder / "fib25_ts2.h5") as file:
        supervoxels, truth = file["supervoxels"][120:], file["neuron_ids_cc"][120:]
    found = scores_between(supervoxels, truth)
    # z >= 120: the validation sections.
    assert (round(found.voi_split, 2), round(found.voi_merge, 2), round(found.arand, 2)) == (1.47, 0.33, 0.17)
    expected = evaluation.variation_of_information(supervoxels, truth, ignore_gt=[0])
    assert (found.voi_split, found.voi_merge) == pytest.approx(expected, abs=1e-9)
    assert found.arand == pytest.approx(evaluation.rand_index(supervoxels, truth, ignore_gt=[0])[0], abs=1e-9)

"""Errors against ground truth: examples by hand, sums of bits, and places for any box size."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from neuroseg.errors import InputError
from neuroseg.evaluation.boxes import Overlap
from neuroseg.evaluation.contingency import contingency
from neuroseg.evaluation.metrics import scores_of
from neuroseg.evaluation.suspect import MERGE, SPLIT, Suspect, joining_bits
from neuroseg.evaluation.truth_errors import errors_between
from neuroseg.evaluation.wrong_parts import ranked_parts, worst_parts
from neuroseg.geometry import slices, triple, whole
from neuroseg.volumes.placement import CENTRE
from neuroseg.volumes.volume import Volume

Labels = NDArray[np.uint64]
SIZE_NM, OFFSET_NM = (30.0, 10.0, 10.0), (60.0, 0.0, -20.0)


class Chunked:
    """An array in memory with a chunk shape."""

    def __init__(self, labels: Labels, chunks: tuple[int, int, int]) -> None:
        self.labels, self.chunks, self.shape, self.dtype = labels, chunks, labels.shape, labels.dtype

    def __getitem__(self, box: tuple[slice, slice, slice]) -> Labels:
        return self.labels[box]


def volume(labels: Labels, chunks: tuple[int, int, int] = (4, 4, 4), convention: str = CENTRE) -> Volume:
    return Volume("labels", Chunked(labels, chunks), SIZE_NM, OFFSET_NM, convention=convention)


def section(*rows: list[int]) -> Labels:
    return np.array([rows], np.uint64)


def errors(segments: Labels, truth: Labels, **options: object) -> list[Suspect]:
    """The errors of two whole volumes."""
    overlap = Overlap(whole(truth.shape), whole(truth.shape))
    return errors_between(volume(segments), volume(truth), overlap, **options)  # type: ignore[arg-type]


def blobs(seed: int, count: int, shape: tuple[int, int, int] = (7, 11, 12)) -> Labels:
    """Smooth labels, including 0."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random((count, *shape)), (0, 1, 1, 1))
    return noise.argmax(0).astype(np.uint64)


def test_one_split_and_one_merge_error() -> None:
    truth = section([1, 1, 1, 1, 0, 2, 2, 2, 2])
    segments = section([5, 5, 5, 6, 6, 6, 6, 6, 6])
    merge, split = errors(segments, truth)
    # Segment 6 has 1 voxel of object 1 and 4 of object 2; object 1 has 3 voxels of segment 5 and 1 of segment 6.
    assert merge.bits == pytest.approx((1 * np.log2(5) + 4 * np.log2(5 / 4)) / 8)
    assert split.bits == pytest.approx((1 * np.log2(4) + 3 * np.log2(4 / 3)) / 8)
    assert (merge.kind, merge.segments, merge.truth) == (MERGE, (6,), (1, 2))
    assert (split.kind, split.segments, split.truth) == (SPLIT, (6, 5), (1,))
    # The membrane (0) lies between the two sides of the merge.
    assert (merge.place_voxels, merge.other_voxels) == ((0, 0, 3), (0, 0, 5))
    assert (split.place_voxels, split.other_voxels) == ((0, 0, 3), (0, 0, 2))
    assert (merge.place_nm, merge.other_nm) == ((60, 0, 10), (60, 0, 30))
    assert merge.description == "segment 6 merges true object 1 (1 voxel) with true object 2"
    assert split.description == "true object 1 is split: 1 voxel in segment 6 beside segment 5"


def test_positions_of_corners_point_to_the_middle_of_the_voxel() -> None:
    truth, segments = section([1, 1, 1]), section([5, 5, 6])
    overlap = Overlap(whole(truth.shape), whole(truth.shape))
    (split,) = errors_between(volume(segments, convention="corner"), volume(truth), overlap)
    assert split.place_nm == (60 + 15, 5, -20 + 25)


def test_parts_join_the_larger_parts_one_after_the_other() -> None:
    rows = ranked_parts(contingency(section([4, 4, 2, 2, 2, 9, 0, 0]), section([1] * 8)), SPLIT)
    assert rows["part"].tolist() == [2, 0, 4, 9]
    assert rows["rank"].tolist() == [0, 1, 2, 3]
    joined = [0.0] + [float(joining_bits(np.array(a), np.array(b), 8)) for a, b in ((2, 3), (2, 5), (1, 7))]
    assert rows["bits"] == pytest.approx(joined)


def test_a_part_that_meets_only_a_smaller_part_points_there() -> None:
    # Part 3 (2 voxels) does not touch part 2 (4 voxels), only part 4 (1 voxel).
    first, second = errors(section([2, 2, 2, 2, 4, 3, 3]), section([1] * 7))
    assert (first.segments, first.place_voxels, first.other_voxels) == ((3, 4), (0, 0, 5), (0, 0, 4))
    assert (second.segments, second.place_voxels, second.other_voxels) == ((4, 2), (0, 0, 4), (0, 0, 3))


def test_a_meeting_with_a_larger_part_comes_before_an_earlier_voxel() -> None:
    # Part 3 meets part 4 at x = 1, and the larger part 2 at x = 2.
    found = {error.segments[0]: error for error in errors(section([4, 3, 3, 2, 2, 2]), section([1] * 6))}
    assert (found[3].place_voxels, found[3].other_voxels) == ((0, 0, 2), (0, 0, 3))


def test_parts_that_do_not_meet_have_no_other_side() -> None:
    (merge,) = errors(section([9, 9, 9, 1, 9, 9]), section([3, 3, 3, 0, 4, 4]))
    assert (merge.kind, merge.place_voxels, merge.other_voxels, merge.truth) == (MERGE, (0, 0, 4), None, (4, 3))


def test_unsegmented_voxels_are_named() -> None:
    (split,) = errors(section([5, 5, 5, 0]), section([1, 1, 1, 1]))
    assert split.description == "true object 1 has 1 unsegmented voxel beside segment 5"
    merges = [error for error in errors(section([0, 0, 0]), section([1, 1, 2])) if error.kind == MERGE]
    assert [error.description for error in merges] == [
        "unsegmented voxels lie in true object 2 (1 voxel) and in true object 1"
    ]


def test_equal_bits_are_sorted_by_kind_object_and_part() -> None:
    truth, segments = section([2, 2, 1, 1, 3, 3]), section([6, 4, 7, 5, 8, 8])
    assert [(error.kind, error.truth, error.segments[0]) for error in errors(segments, truth)] == [
        (SPLIT, (1,), 7), (SPLIT, (2,), 6),
    ]  # fmt: skip
    assert [error.truth for error in errors(segments, truth, top=1)] == [(1,)]


def test_no_errors_and_no_counted_voxels() -> None:
    same = section([1, 1, 2])
    assert errors(same, same) == []
    with pytest.raises(InputError, match="nothing to compare"):
        errors(same, section([0, 0, 0]))


@settings(max_examples=30)
@given(seed=st.integers(0, 2**31), counts=st.tuples(st.integers(2, 9), st.integers(2, 9)))
def test_bits_sum_to_the_scores(seed: int, counts: tuple[int, int]) -> None:
    table = contingency(blobs(seed, counts[0]), blobs(seed + 1, counts[1]))
    if not len(table["count"]):
        return
    scores = scores_of(table)
    for kind, voi in ((SPLIT, scores.voi_split), (MERGE, scores.voi_merge)):
        rows = ranked_parts(table, kind)
        assert rows["bits"].sum() == pytest.approx(voi, abs=1e-12)
        assert (rows["bits"][rows["rank"] > 0] > 0).all()
    every = {kind: ranked_parts(table, kind) for kind in (SPLIT, MERGE)}
    bits = [every[kind]["bits"][row] for kind, row in worst_parts(every, None)]
    assert bits == sorted(bits, reverse=True)
    assert worst_parts(every, 3) == worst_parts(every, None)[:3]


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**31),
    chunk=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
    box_voxels=st.sampled_from([60, 300]),
    roi=st.sampled_from(["all", "part"]),
)
def test_places_lie_in_the_parts_and_do_not_depend_on_the_boxes(
    seed: int, chunk: tuple[int, int, int], box_voxels: int, roi: str
) -> None:
    segments, truth = blobs(seed, 7), blobs(seed + 1, 5)
    region = whole(truth.shape) if roi == "all" else whole(truth.shape).grow((-1, -2, 0), (0, 0, -3))
    overlap = Overlap(region, whole(truth.shape))
    found = errors_between(volume(segments), volume(truth), overlap)
    boxed = errors_between(volume(segments, chunk), volume(truth), overlap, box_voxels=box_voxels)
    assert boxed == found
    for error in found:
        assert region.contains(error.place_voxels)
        assert (segments[error.place_voxels], truth[error.place_voxels]) == (error.segments[0], error.truth[0])
        if error.other_voxels is not None:
            assert region.contains(error.other_voxels)
            assert (segments[error.other_voxels], truth[error.other_voxels]) == (error.segments[-1], error.truth[-1])
            assert sum(a != b for a, b in zip(error.place_voxels, error.other_voxels, strict=True)) == 1
        assert error.place_voxels == first_place(error, segments, truth, slices(region))


def first_place(error: Suspect, segments: Labels, truth: Labels, box: tuple[slice, ...]) -> tuple[int, ...]:
    """The place by its definition, for every voxel of the part: without the bridges of merges over ignored voxels."""
    begin = [part.start for part in box]
    segments, truth = segments[box], truth[box]
    own, among = (truth, segments) if error.kind == SPLIT else (segments, truth)
    of, part = (error.truth[0], error.segments[0]) if error.kind == SPLIT else (error.segments[0], error.truth[0])
    inside = (own == of) & (truth != 0)
    sizes = {int(p): int(((among == p) & inside).sum()) for p in np.unique(among[inside])}
    larger = {p for p in sizes if (-sizes[p], p) < (-sizes[part], part)}
    keys = []
    for at in np.argwhere(inside & (among == part)):
        ways = itertools.product(range(3), (-1, 1))
        met = {met_along(at, axis, step, own, among, truth, part, kind=error.kind) for axis, step in ways}
        met.discard(None)
        keys.append((0 if met & larger else 1 if met else 2, *at.tolist()))
    return tuple(np.array(min(keys)[1:]) + begin)


def met_along(
    at: NDArray[np.int64], axis: int, step: int, own: Labels, among: Labels, truth: Labels, part: int, *, kind: str
) -> int | None:
    """The part that a voxel meets in one direction, or None."""
    here = at.copy()
    for _ in range(13):
        here[axis] += step
        if not 0 <= here[axis] < own.shape[axis] or own[tuple(here)] != own[tuple(at)]:
            return None
        if truth[tuple(here)] != 0:
            other = int(among[tuple(here)])
            return other if other != part else None
        if kind == SPLIT:
            return None
    return None


def test_only_counted_voxels_weigh_and_the_ignored_ones_are_no_place() -> None:
    truth, segments = section([1, 1, 1, 3, 3, 2, 2]), section([5, 5, 5, 5, 5, 5, 5])
    (merge,) = errors(segments, truth, ignore=(3,))
    assert merge.bits == pytest.approx(float(joining_bits(np.array(3), np.array(2), 5)))
    assert (merge.place_voxels, merge.other_voxels, merge.truth) == ((0, 0, 5), (0, 0, 2), (2, 1))


def test_two_sides_further_apart_than_a_membrane_do_not_meet() -> None:
    for width, other in ((12, (0, 0, 1)), (13, None)):
        truth = section([1, 1, *[0] * width, 2])
        (merge,) = errors(np.full_like(truth, 4), truth)
        assert (merge.place_voxels, merge.other_voxels) == ((0, 0, 2 + width), other)


def test_large_ids_are_kept() -> None:
    big = 2**63 + 5
    truth, segments = section([big, big, big]), section([2**62, 2**62, 3])
    (split,) = errors(segments, truth)
    assert (split.truth, split.segments) == ((big,), (3, 2**62))
    assert triple(split.place_voxels) == (0, 0, 2)

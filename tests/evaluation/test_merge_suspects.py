"""Suspects of the merge tree: a tree drawn by hand, thresholds, sizes and contacts."""

from __future__ import annotations

import numpy as np
import pytest

from neuroseg.evaluation.merge_suspects import (
    DOUBTFUL_SCORES,
    SMALL_CONTACTS,
    doubtful_merges,
    doubtful_splits,
    region_sizes,
    small_contacts,
    strongest,
)
from neuroseg.evaluation.suspect import DOUBTFUL_MERGE, DOUBTFUL_SPLIT, SMALL_CONTACT, joining_bits
from neuroseg.tables import Table

# Four fragments, merged as (0, 1), (2, 3), (1, 2).
SIZES = np.array([1000, 3000, 2000, 4000], np.int64)
U, V = np.array([0, 2, 1]), np.array([1, 3, 2])
TOTAL = 10_000


def bits(one: int, other: int) -> float:
    return float(joining_bits(np.array(one), np.array(other), TOTAL))


def segments(*pairs: tuple[int, int]) -> Table:
    """The segments of both fragments of each row."""
    return dict(zip("uv", np.array(pairs, np.uint64).T, strict=True))


# The segments of the three rows if only the first two are merged.
TWO = segments((1, 1), (2, 2), (1, 2))


def test_bits_of_joining_two_parts() -> None:
    assert bits(5000, 5000) == pytest.approx(1)
    assert bits(1000, 3000) == pytest.approx((1000 * 2 + 3000 * np.log2(4 / 3)) / TOTAL)
    assert bits(3000, 1000) == bits(1000, 3000)


def test_regions_have_their_sizes_before_the_merge() -> None:
    one, other = region_sizes(U, V, SIZES)
    assert (one.tolist(), other.tolist()) == ([1000, 2000, 4000], [3000, 4000, 6000])


def test_a_merge_just_below_the_threshold_weighs_by_the_regions() -> None:
    regions = region_sizes(U[:2], V[:2], SIZES)
    rows = doubtful_merges(np.array([0.2, 0.46, 0.53]), TWO, regions, TOTAL, 0.5)
    assert (rows["kind"].tolist(), rows["row"].tolist()) == ([DOUBTFUL_MERGE], [1])
    assert (rows["one"].tolist(), rows["other"].tolist()) == ([2000], [4000])
    assert rows["bits"] == pytest.approx([bits(2000, 4000) * (1 - 0.04 / DOUBTFUL_SCORES)])


def test_a_split_at_or_just_above_the_threshold_weighs_by_the_segments() -> None:
    sizes = np.array([0, 4000, 6000])
    rows = doubtful_splits(np.array([0.2, 0.46, 0.53]), TWO, sizes, TOTAL, 0.5)
    assert (rows["kind"].tolist(), rows["row"].tolist()) == ([DOUBTFUL_SPLIT], [2])
    assert (rows["one"].tolist(), rows["other"].tolist()) == ([4000], [6000])
    assert rows["bits"] == pytest.approx([bits(4000, 6000) * (1 - 0.03 / DOUBTFUL_SCORES)])
    for score, factors in ((0.5, [1]), (0.61, [])):
        rows = doubtful_splits(np.array([0.2, 0.3, score]), TWO, sizes, TOTAL, 0.5)
        assert rows["bits"] == pytest.approx([factor * bits(4000, 6000) for factor in factors])


def test_a_small_contact_weighs_by_the_smaller_side() -> None:
    # 1000 ** (2 / 3) = 100: the contact is small below 5 voxel pairs. The limit of row 1 is 7.94.
    rows = small_contacts(TWO, region_sizes(U[:2], V[:2], SIZES), np.array([2, 8]), TOTAL)
    assert (rows["kind"].tolist(), rows["row"].tolist(), rows["contacts"].tolist()) == ([SMALL_CONTACT], [0], [2])
    assert rows["bits"] == pytest.approx([bits(1000, 3000) * (1 - 2 / (SMALL_CONTACTS * 100))])


def test_fragments_without_a_segment_and_small_merged_segments_are_skipped() -> None:
    scores, regions = np.array([0.45, 0.46, 0.51]), region_sizes(U[:2], V[:2], SIZES)
    dropped = segments((1, 1), (0, 0), (1, 0))
    assert doubtful_merges(scores, dropped, regions, TOTAL, 0.5)["row"].tolist() == [0]
    assert small_contacts(dropped, regions, np.array([1, 1]), TOTAL)["row"].tolist() == [0]
    for last in ((1, 0), (0, 1), (2, 2)):  # (2, 2): merged because of --min-size
        rows = doubtful_splits(scores, segments((1, 1), (2, 2), last), np.array([0, 4000, 6000]), TOTAL, 0.5)
        assert not len(rows["row"])


def table(kind: str, *rows: tuple[int, float]) -> Table:
    numbers, weights = (np.array(column) for column in zip(*rows, strict=True))
    rest = {name: np.zeros(len(rows), np.int64) for name in ("one", "other", "contacts")}
    return {"kind": np.full(len(rows), kind, object), "row": numbers, "bits": weights, **rest}


def test_each_row_is_listed_once_and_ties_have_an_order() -> None:
    found = strongest([table("a", (7, 0.5), (3, 0.1), (9, 0.2)), table("b", (3, 0.3), (9, 0.2), (5, 0.5))])
    assert list(zip(found["kind"].tolist(), found["row"].tolist(), strict=True)) == [
        ("b", 5), ("a", 7), ("b", 3), ("a", 9),
    ]  # fmt: skip


def test_an_empty_tree_has_no_suspects() -> None:
    none, no_segments = np.zeros(0, np.int64), {side: np.zeros(0, np.uint64) for side in "uv"}
    regions = region_sizes(none, none, SIZES)
    found = strongest([
        doubtful_merges(np.zeros(0), no_segments, regions, TOTAL, 0.5),
        doubtful_splits(np.zeros(0), no_segments, np.array([0, 10]), TOTAL, 0.5),
        small_contacts(no_segments, regions, none, TOTAL),
    ])  # fmt: skip
    assert not len(found["row"])

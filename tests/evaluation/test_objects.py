"""Errors of each object: examples by hand, sums of the contributions, and places."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from neuroseg.evaluation.contingency import contingency
from neuroseg.evaluation.metrics import scores_of
from neuroseg.evaluation.objects import COLUMNS, object_errors, write_objects
from neuroseg.evaluation.pieces import block_places
from neuroseg.geometry import Triple, triple, whole
from neuroseg.tables import Table

Labels = NDArray[np.uint64]


def errors_between(
    segments: Labels, truth: Labels, counted: NDArray[np.bool_] | None = None
) -> list[dict[str, object]]:
    """The rows of the table of two volumes."""
    rows = object_errors(contingency(segments, truth, counted=counted), places_of(segments, truth), triple(truth.shape))
    assert tuple(rows) == COLUMNS
    return [
        dict(zip(rows, row, strict=True)) for row in zip(*(column.tolist() for column in rows.values()), strict=True)
    ]


def places_of(segments: Labels, truth: Labels) -> Table:
    """Places where the pieces of two whole volumes meet."""
    shape: Triple = triple(truth.shape)
    return block_places(segments, truth, (0,), read_roi=whole(shape), write_roi=whole(shape), volume_shape=shape)


def labels(*rows: list[int]) -> Labels:
    """One section."""
    return np.array([rows], np.uint64)


def test_an_object_cut_in_two_and_a_whole_one() -> None:
    truth = labels([7, 7, 7, 7, 0, 8, 8, 8, 8])
    segments = labels([1, 1, 1, 2, 2, 5, 5, 5, 5])
    rows = errors_between(segments, truth)
    split = rows[0]
    # A quarter of half of the volume: (3/8) log2(4/3) + (1/8) log2(4).
    assert split["bits"] == pytest.approx(3 / 8 * np.log2(4 / 3) + 1 / 8 * 2)
    assert {name: split[name] for name in ("error", "id", "voxels", "parts", "largest_part", "part_ids")} == {
        "error": "split", "id": 7, "voxels": 4, "parts": 2, "largest_part": 3, "part_ids": "1 2",
    }  # fmt: skip
    # The smaller part begins where it leaves the larger one.
    assert (split["z"], split["y"], split["x"]) == (0, 0, 3)
    assert split["share"] == 1
    assert [(row["error"], row["id"], row["bits"]) for row in rows[1:]] == [
        ("merge", 5, 0), ("split", 8, 0), ("merge", 1, 0), ("merge", 2, 0),
    ]  # fmt: skip


def test_a_merge_across_a_membrane_points_to_the_smaller_object() -> None:
    # Ignored voxels separate truth 3 and 4. Segment 9 covers all of them.
    truth = labels([4, 4, 0, 0, 3, 3, 3, 3], [4, 0, 0, 0, 0, 3, 3, 3])
    segments = labels([2, 9, 9, 9, 9, 9, 9, 9], [9, 2, 2, 2, 2, 9, 9, 9])
    worst = errors_between(segments, truth)[0]
    assert (worst["error"], worst["id"], worst["parts"], worst["part_ids"]) == ("merge", 9, 2, "3 4")
    # (1, 0) also belongs to the smaller object, but another segment lies between it and the larger one.
    assert (worst["z"], worst["y"], worst["x"]) == (0, 0, 1)


def test_parts_that_do_not_meet_point_to_their_first_voxel() -> None:
    truth, segments = labels([3, 3, 3, 0, 4, 4]), labels([9, 9, 9, 1, 9, 9])
    worst = errors_between(segments, truth)[0]
    assert (worst["error"], worst["z"], worst["y"], worst["x"]) == ("merge", 0, 0, 4)


def test_ignored_voxels_cause_no_errors() -> None:
    truth, segments = labels([7, 7, 7, 7, 7, 7]), labels([1, 1, 1, 2, 2, 3])
    counted = np.array([[[True, True, False, False, True, False]]])
    worst = errors_between(segments, truth, counted)[0]
    assert (worst["voxels"], worst["parts"], worst["part_ids"], worst["x"]) == (3, 2, "1 2", 3)


def random_blobs(seed: int, count: int) -> Labels:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random((count, 6, 9, 10)), (0, 1, 1, 1))
    return noise.argmax(0).astype(np.uint64)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**31), counts=st.tuples(st.integers(2, 9), st.integers(2, 9)))
def test_contributions_sum_to_the_scores_and_places_lie_in_their_objects(seed: int, counts: tuple[int, int]) -> None:
    segments, truth = random_blobs(seed, counts[0]), random_blobs(seed + 1, counts[1])
    rows = errors_between(segments, truth)
    scores = scores_of(contingency(segments, truth))
    for error, voi in (("split", scores.voi_split), ("merge", scores.voi_merge)):
        assert sum(row["bits"] for row in rows if row["error"] == error) == pytest.approx(voi, abs=1e-12)
    assert {row["id"] for row in rows if row["error"] == "split"} == set(np.unique(truth).tolist()) - {0}
    assert [row["bits"] for row in rows] == sorted((row["bits"] for row in rows), reverse=True)
    for row in rows:
        own, other = (truth, segments) if row["error"] == "split" else (segments, truth)
        parts, at = row["part_ids"].split(), (row["z"], row["y"], row["x"])
        assert own[at] == row["id"]
        assert str(other[at]) == parts[min(1, len(parts) - 1)]


def test_the_file_is_read_back_with_its_sums(tmp_path: Path) -> None:
    segments, truth = random_blobs(3, 8), random_blobs(4, 5)
    table = contingency(segments, truth)
    write_objects(tmp_path / "errors.csv", object_errors(table, places_of(segments, truth), triple(truth.shape)))
    with (tmp_path / "errors.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    total = sum(float(row["bits"]) for row in rows)
    assert total == pytest.approx(scores_of(table).voi_sum, abs=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == ["errors.csv"]

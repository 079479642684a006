"""Edits by hand on the merge tree: what they join and split, that their order does not matter, what is impossible."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from funlib.geometry import Roi
from hypothesis import given
from hypothesis import strategies as st

from neuroseg.agglomeration.constraints import JOIN, SPLIT, Edit, constraints_of, require_fitting
from neuroseg.agglomeration.partition import NO_CONSTRAINTS, Constraints, MergeRows, merge_rows
from neuroseg.agglomeration.scorings import parse_scoring
from neuroseg.agglomeration.tree import merge_tree
from neuroseg.errors import InputError

WHOLE = Roi((0, 0, 0), (1, 1, 10))
# Ten voxels in a row: fragments 1 to 9, and no fragment at voxel 9.
LABELS = np.array([[[1, 2, 3, 4, 5, 6, 7, 8, 9, 0]]], np.uint64)
IDS = np.arange(1, 10, dtype=np.uint64)


def edit(number: int, kind: str, one: int, other: int) -> Edit:
    """An edit between two voxels of the row."""
    return Edit(number, kind, ((0, 0, one), (0, 0, other)))


def pairs(*found: tuple[int, int]) -> np.ndarray:
    return np.array(found, np.int64).reshape(-1, 2)


def chain(*scores: float, sizes: tuple[int, ...] = ()) -> MergeRows:
    """Fragments 0, 1, 2 ... in a row. scores[n]: between n and n + 1. Rows are sorted by score."""
    order = np.argsort(scores, kind="stable")
    found = np.array(sizes or (1,) * (len(scores) + 1), np.int64)
    return MergeRows(order.astype(np.int64), order.astype(np.int64) + 1, np.sort(scores), found)


def test_a_split_cuts_where_the_affinity_is_least() -> None:
    rows = chain(0.1, 0.4, 0.2)
    assert rows.roots(0.5, constraints=Constraints(pairs(), pairs((0, 3)))).tolist() == [0, 0, 2, 2]
    # Nothing is cut that the threshold separates already, and nothing between other fragments.
    assert rows.roots(0.15, constraints=Constraints(pairs(), pairs((0, 3)))).tolist() == [0, 0, 2, 3]
    assert rows.roots(0.5, constraints=Constraints(pairs(), pairs((0, 1)))).tolist() == [0, 1, 1, 1]


def test_of_equal_affinities_the_later_merge_is_cut() -> None:
    assert chain(0.3, 0.3, 0.3).roots(0.5, constraints=Constraints(pairs(), pairs((0, 3)))).tolist() == [0, 0, 0, 3]


def test_joined_fragments_are_one_segment_at_every_threshold() -> None:
    rows = chain(0.1, 0.9, 0.1)
    assert rows.roots(0.0, constraints=Constraints(pairs((0, 3)), pairs())).tolist() == [0, 1, 2, 0]
    assert rows.roots(0.5, constraints=Constraints(pairs((0, 3)), pairs())).tolist() == [0, 0, 0, 0]


def test_a_split_goes_around_fragments_that_are_joined() -> None:
    # The worst contact is within a joined pair, so the next one is cut.
    constraints = Constraints(pairs((1, 2)), pairs((0, 3)))
    assert chain(0.1, 0.4, 0.2).roots(0.5, constraints=constraints).tolist() == [0, 0, 0, 3]


def test_small_segments_do_not_join_across_a_split() -> None:
    rows = chain(0.2, 0.8, sizes=(5, 5, 100))
    assert rows.roots(0.5, 50).tolist() == [0, 0, 0]
    assert rows.roots(0.5, 50, constraints=Constraints(pairs(), pairs((0, 2)))).tolist() == [-1, -1, 2]
    assert rows.roots(0.5, 50, "drop", Constraints(pairs((0, 2)), pairs())).tolist() == [0, 0, 0]


def test_edits_are_found_at_their_points() -> None:
    edits = [edit(1, JOIN, 0, 4), edit(2, SPLIT, 1, 8), edit(3, JOIN, 5, 6)]
    found = constraints_of(edits, LABELS, WHOLE, IDS).constraints
    assert found.joined.tolist() == [[0, 4], [5, 6]]
    assert found.split.tolist() == [[1, 8]]


def test_an_edit_outside_the_region_has_no_effect() -> None:
    region = Roi((0, 0, 0), (1, 1, 5))
    found = constraints_of([edit(1, JOIN, 0, 6), edit(2, SPLIT, 9, 1)], LABELS, region, IDS).constraints
    assert (len(found.joined), len(found.split)) == (0, 0)


@pytest.mark.parametrize(
    ("edits", "problems"),
    [
        ([edit(4, JOIN, 0, 9)], {4: "there is no segment at voxel 0,0,9"}),
        ([edit(4, SPLIT, 3, 3), edit(5, JOIN, 2, 2)], {4: "both points are in one fragment", 5: "both points"}),
        (
            [edit(1, JOIN, 0, 1), edit(2, JOIN, 1, 2), edit(3, SPLIT, 2, 0), edit(7, JOIN, 1, 5)],
            {3: "it contradicts edit 2 (join 0,0,1 and 0,0,2), edit 1 (join 0,0,0 and 0,0,1)"},
        ),
        ([edit(3, SPLIT, 2, 0), edit(4, JOIN, 0, 2)], {3: "it contradicts edit 4 (join 0,0,0 and 0,0,2)"}),
    ],
)
def test_what_does_not_fit_is_left_out_and_told(edits: list[Edit], problems: dict[int, str]) -> None:
    found = constraints_of(edits, LABELS, WHOLE, IDS)
    assert {each.number: problem[: len(problems[each.number])] for each, problem in found.problems} == problems
    assert len(found.constraints.joined) + len(found.constraints.split) == len(edits) - len(problems)
    with pytest.raises(InputError, match=f"{len(problems)} edits do not fit") as raised:
        require_fitting(found, Path("w"))
    assert raised.value.hint.endswith(" ".join(f"--undo {number}" for number in problems))


def test_a_message_names_few_of_many_joins() -> None:
    edits = [edit(n + 1, JOIN, n, n + 1) for n in range(30)]
    labels = np.arange(1, 40, dtype=np.uint64).reshape(1, 1, -1)
    found = constraints_of([*edits, edit(99, SPLIT, 0, 30)], labels, Roi((0, 0, 0), (1, 1, 39)), labels.ravel())
    ((_, problem),) = found.problems
    assert problem.count("join") == 10
    assert problem.endswith("and 20 more")


def test_without_fragments_or_edits_there_is_nothing_to_do() -> None:
    none = constraints_of([], LABELS, WHOLE, IDS[:0])
    assert (none.constraints.joined.shape, none.constraints.split.shape, none.problems) == ((0, 2), (0, 2), ())
    require_fitting(none, Path("w"))
    assert len(constraints_of([edit(1, JOIN, 0, 1)], LABELS, WHOLE, IDS[:0]).problems) == 1


def test_a_fragment_stays_with_the_side_of_its_strongest_contact(tables_from: Callable) -> None:
    """Fragments 1 and 2 merge first. Fragment 3 touches 1 at many voxels, and 2 at one."""
    edges, bins = tables_from({(1, 2): {250: 100}, (1, 3): {240: 1000}, (2, 3): {51: 1}})
    nodes = {"fragment": IDS[:3], "voxel_count": np.ones(3, np.uint64)}
    rows = merge_rows(merge_tree(edges, bins, parse_scoring("mean")), nodes)
    assert rows.roots(0.9).tolist() == [0, 0, 0]
    assert rows.roots(0.9, constraints=Constraints(pairs(), pairs((0, 1)))).tolist() == [0, 1, 0]


def by_hand(rows: MergeRows, threshold: float, constraints: Constraints) -> list[int]:
    """The same partition, from sets of fragments."""
    segments = [{node} for node in range(len(rows.sizes))]

    def of(node: int) -> set[int]:
        return next(segment for segment in segments if node in segment)

    def join(one: set[int], other: set[int]) -> None:
        segments.remove(other)
        one |= other

    for a, b in constraints.joined.tolist():
        if of(a) is not of(b):
            join(of(a), of(b))
    for a, b, score in zip(rows.a.tolist(), rows.b.tolist(), rows.scores.tolist(), strict=True):
        one, other = of(a), of(b)
        apart = [{p, q} <= one | other for p, q in constraints.split.tolist()]
        if score < threshold and one is not other and not any(apart):
            join(one, other)
    return [min(of(node)) for node in range(len(rows.sizes))]


@st.composite
def trees(draw: Callable) -> MergeRows:
    """A merge tree of up to 12 fragments with many equal scores."""
    count = draw(st.integers(2, 12))
    found = [(draw(st.integers(0, node - 1)), node) for node in range(1, count) if draw(st.booleans())]
    found = draw(st.permutations(found))
    scores = sorted(draw(st.lists(st.sampled_from([0.1, 0.2, 0.3]), min_size=len(found), max_size=len(found))))
    ends = np.array(found, np.int64).reshape(-1, 2)
    return MergeRows(ends[:, 0], ends[:, 1], np.array(scores), np.ones(count, np.int64))


@given(rows=trees(), threshold=st.sampled_from([0.05, 0.15, 0.25, 0.35]), data=st.data())
def test_edits_hold_at_every_threshold_and_in_any_order(rows: MergeRows, threshold: float, data: st.DataObject) -> None:
    count = len(rows.sizes)
    labels = np.arange(1, count + 1, dtype=np.uint64).reshape(1, 1, count)
    node = st.integers(0, count - 1)
    edits = [
        edit(number, kind, one, other)
        for number, (kind, one, other) in enumerate(
            data.draw(st.lists(st.tuples(st.sampled_from([JOIN, SPLIT]), node, node), max_size=6)), start=1
        )
    ]
    whole, ids = Roi((0, 0, 0), (1, 1, count)), labels.ravel()
    fits = constraints_of(edits, labels, whole, ids)
    constraints, left_out = fits.constraints, {each for each, _ in fits.problems}
    found = rows.roots(threshold, constraints=constraints)
    assert found.tolist() == by_hand(rows, threshold, constraints)
    for each in [each for each in edits if each not in left_out]:
        one, other = (point[2] for point in each.points_voxels)
        assert (found[one] == found[other]) == (each.kind == JOIN)
    again = constraints_of(data.draw(st.permutations(edits)), labels, whole, ids).constraints
    assert rows.roots(threshold, constraints=again).tolist() == found.tolist()
    if not edits:
        assert rows.roots(threshold, constraints=NO_CONSTRAINTS).tolist() == found.tolist()

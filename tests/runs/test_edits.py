"""Edits by hand in a workspace: the same bytes for any blocking, kept, undone, listed, and refused when impossible."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr
from scipy import ndimage

from neuroseg.agglomeration.constraints import JOIN, SPLIT, Edit
from neuroseg.checks.score import Request, score
from neuroseg.checks.suspects import suspects_of
from neuroseg.cli.main import exit_code
from neuroseg.errors import InputError
from neuroseg.evaluation.artifacts import compared
from neuroseg.evaluation.suspect import Suspect
from neuroseg.geometry import Triple, triple
from neuroseg.runs import pipeline
from neuroseg.runs.edits import change_edits, edits_in, read_edits
from neuroseg.runs.options import Options
from neuroseg.runs.plan import Plan, read_options, read_plan, write_plan
from neuroseg.storage.arrays import open_array
from neuroseg.storage.workspace import Workspace

SHAPE = (12, 40, 50)


@pytest.fixture(scope="module")
def affinities(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Affinities of a random volume whose fragments merge at many scores."""
    path = tmp_path_factory.mktemp("edits") / "A.zarr"
    smooth = ndimage.gaussian_filter(np.random.default_rng(7).random((3, *SHAPE)), (0, 1, 2, 2))
    values = np.round(255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    attributes = {"offsets": [[-1, 0, 0], [0, -1, 0], [0, 0, -1]], "voxel_size": [20, 10, 10]}
    zarr.create_array(str(path), shape=values.shape, dtype="u1", attributes=attributes)[:] = values
    return str(path)


def segmented(affinities: str, folder: Path, **more: object) -> Workspace:
    given = {"affinities": affinities, "output": str(folder), "executor": "serial", "blocks": "12,40,50", **more}
    return pipeline.segment(Options.model_validate({"threshold": 0.5, **given}))[0]


def again(workspace: Workspace, **more: object) -> None:
    pipeline.segment(Options.model_validate({"volume": str(workspace.path), **more}))


def add_edits(workspace: Workspace, plan: Plan, edits: list[Edit]) -> list[Edit]:
    return change_edits(workspace, plan, edits)[0]


def undo_edit(workspace: Workspace, number: int) -> Edit:
    (undone,) = change_edits(workspace, read_plan(workspace), undone=[number])[1]
    return undone


def labels(workspace: Workspace) -> np.ndarray:
    return np.asarray(open_array(workspace.segmentation / "0")[:])


def two_points(workspace: Workspace, *, joined: bool) -> tuple[Triple, Triple]:
    """Return two voxels in different fragments, in one segment or in different ones."""
    segments, fragments = labels(workspace), np.asarray(open_array(workspace.fragments)[:])
    one = np.argwhere(segments == np.bincount(segments.ravel().astype(int))[1:].argmax() + 1)[0]
    same = segments == segments[tuple(one)]
    wanted = (fragments != fragments[tuple(one)]) & (same if joined else ~same & (segments > 0))
    return triple(one.tolist()), triple(np.argwhere(wanted)[-1].tolist())


def edit(kind: str, points: tuple[Triple, Triple]) -> Edit:
    return Edit(0, kind, points)


def written(path: Path, *edits: Edit) -> Path:
    """A file with edits."""
    lines = [json.dumps({"kind": each.kind, "points_voxels": each.points_voxels}) for each in edits]
    path.write_text("\n".join(lines))
    return path


def test_edits_change_the_segmentation_whatever_the_blocks_and_are_undone(affinities: str, tmp_path: Path) -> None:
    whole, cut = segmented(affinities, tmp_path / "whole"), segmented(affinities, tmp_path / "cut", blocks="5,16,17")
    before = labels(whole)
    apart, together = two_points(whole, joined=False), two_points(whole, joined=True)
    file = written(tmp_path / "edits.jsonl", edit(JOIN, apart), edit(SPLIT, together))
    for workspace in (whole, cut):
        assert exit_code(["edits", str(workspace.path), "--apply", str(file)]) == 0
    found = labels(whole)
    assert found[apart[0]] == found[apart[1]]
    assert found[together[0]] != found[together[1]]
    assert not {name: different for name, different in compared(whole, cut) if different}
    for number in (1, 2):
        assert exit_code(["edits", str(whole.path), "--undo", str(number)]) == 0
    assert (labels(whole) == before).all()


def test_edits_survive_another_threshold_and_a_complete_restart(affinities: str, tmp_path: Path) -> None:
    workspace = segmented(affinities, tmp_path / "w")
    points = two_points(workspace, joined=True)
    add_edits(workspace, read_plan(workspace), [edit(SPLIT, points)])
    for more in ({"threshold": 0.9}, {"threshold": 0.5}, {"threshold": 0.9, "min_size": "50"}):
        again(workspace, **more)
        found = labels(workspace)
        assert found[points[0]] != found[points[1]] or not found[points[0]]
    pipeline.segment(Options.model_validate({"volume": str(workspace.path), "min_size": "0"}), restart="fragments")
    found = labels(workspace)
    assert found[points[0]] != found[points[1]]
    assert [each.number for each in read_plan(workspace).edits] == [1]


def test_nothing_is_computed_again_for_edits_but_the_segmentation(affinities: str, tmp_path: Path) -> None:
    workspace = segmented(affinities, tmp_path / "w")
    add_edits(workspace, read_plan(workspace), [edit(JOIN, two_points(workspace, joined=False))])
    _, summaries = pipeline.segment(Options.model_validate({"volume": str(workspace.path)}))
    assert {each.stage for each in summaries if each.blocks} == {"lookup", "relabel"}


def test_scores_at_every_threshold_are_those_with_edits(affinities: str, tmp_path: Path) -> None:
    workspace = segmented(affinities, tmp_path / "w")
    truth = str(tmp_path / "T.zarr")
    zarr.create_array(truth, shape=SHAPE, dtype="u8", attributes={"voxel_size": [20, 10, 10]})[:] = labels(workspace)
    add_edits(workspace, read_plan(workspace), [edit(SPLIT, two_points(workspace, joined=True))])
    again(workspace)
    result = score(Request(str(workspace.path), truth, sweep=True))
    (row,) = [row for row in result["sweep"] if row["threshold"] == 0.5]
    assert result["voi_split"] > 0
    assert row["voi_sum"] == pytest.approx(result["voi_sum"])


def test_the_same_edit_is_stored_once_with_author_and_time(affinities: str, tmp_path: Path) -> None:
    workspace = segmented(affinities, tmp_path / "w")
    plan, points = read_plan(workspace), two_points(workspace, joined=False)
    (stored,) = add_edits(workspace, plan, [edit(JOIN, points), edit(JOIN, (points[1], points[0]))])
    assert (stored.number, bool(stored.by), stored.at[10]) == (1, True, "T")
    assert add_edits(workspace, plan, [edit(JOIN, points)]) == []
    assert undo_edit(workspace, 1) == stored
    (second,) = add_edits(workspace, plan, [edit(JOIN, points)])
    assert second.number == 2
    assert len(workspace.edits.read_bytes().splitlines()) == 3
    with pytest.raises(InputError, match="no edit 1"):
        undo_edit(workspace, 1)


def test_an_impossible_edit_is_refused_and_nothing_is_stored(affinities: str, tmp_path: Path) -> None:
    workspace = segmented(affinities, tmp_path / "w")
    plan, points = read_plan(workspace), two_points(workspace, joined=False)
    for wrong, message in [
        (edit(SPLIT, (points[0], points[0])), "one fragment"),
        (edit(JOIN, (points[0], SHAPE)), "outside the region"),
    ]:
        with pytest.raises(InputError, match=message):
            add_edits(workspace, plan, [edit(JOIN, points), wrong])
    with pytest.raises(InputError, match=r"the edit .split.* contradicts the edit .join"):
        add_edits(workspace, plan, [edit(JOIN, points), edit(SPLIT, points)])
    add_edits(workspace, plan, [edit(JOIN, points)])
    with pytest.raises(InputError, match=r"the edit .split.* contradicts edit 1 .join"):
        add_edits(workspace, plan, [edit(SPLIT, points)])
    with pytest.raises(InputError, match="no edit 9"):
        change_edits(workspace, plan, undone=[1, 9])
    assert [each.number for each in read_edits(workspace).active] == [1]


def test_a_line_that_a_crash_cut_off_is_ignored_and_replaced(affinities: str, tmp_path: Path) -> None:
    workspace = segmented(affinities, tmp_path / "w")
    plan, points = read_plan(workspace), two_points(workspace, joined=False)
    workspace.edits.write_text('{"edit": 1, "kind": "jo')
    assert read_edits(workspace).active == ()
    add_edits(workspace, plan, [edit(JOIN, points)])
    assert [each.number for each in read_edits(workspace).active] == [1]


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        "nonsense",
        "[" * 5000,
        '{"kind": "merge", "points_voxels": [[0, 0, 0], [1, 1, 1]]}',
        '{"kind": "join", "points_voxels": [[0, 0, 0]]}',
        '{"kind": "join", "points_voxels": [[0, 0], [1, 1]]}',
        '{"kind": "join", "points_voxels": [[0, 0, -1], [1, 1, 1]]}',
        '{"kind": "join", "points_voxels": [[0, 0, 0.5], [1, 1, 1]]}',
        '{"kind": "join", "points_voxels": [[0, 0, true], [1, 1, 1]]}',
        '{"kind": ["join"], "points_voxels": [[0, 0, 0], [1, 1, 1]]}',
        '{"edit": "1", "kind": "join", "points_voxels": [[0, 0, 0], [1, 1, 1]]}',
        '{"kind": "join", "points_voxels": [[0, 0, 0], [1, 1, 1]], "by": 7}',
        '{"kind": "join", "points_voxels": [[0, 0, 0], [1, 1, 1]], "by": "\\u001b[31m"}',
        '{"kind": "join", "points_voxels": [[0, 0, 0], [1, 1, 1]], "by": "\\ud800"}',
        '{"kind": "join", "points_voxels": [[0, 0, 0], [1, 1, 1]], "by": "' + "a" * 101 + '"}',
        '{"kind": "join", "points_voxels": [[0, 0, 1e30], [1, 1, 1]]}',
        '{"kind": "join", "points": [[0, 0, 0], [1, 1, 1]]}',
    ],
)
def test_a_line_that_is_no_edit_is_named(line: str, tmp_path: Path) -> None:
    file = tmp_path / "edits.jsonl"
    file.write_text('{"kind": "join", "points_voxels": [[0, 0, 0], [1, 1, 1]]}\n' + line)
    with pytest.raises(InputError, match=r"line 2 of .*edits\.jsonl is not an edit"):
        edits_in(file)


def test_the_list_says_whether_the_segmentation_has_the_edits(
    affinities: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = segmented(affinities, tmp_path / "w")
    assert exit_code(["edits", str(workspace.path)]) == 0
    assert "no edits" in capsys.readouterr().out
    file = written(tmp_path / "more.jsonl", edit(JOIN, two_points(workspace, joined=False)))
    assert exit_code(["edits", str(workspace.path), "--apply", str(file), "--store-only"]) == 0
    shown = capsys.readouterr()
    assert "join" in shown.out
    assert "run neuroseg segment" in shown.err
    predicted = read_plan(workspace).model_copy(update={"edits": read_edits(workspace).active})
    write_plan(workspace, predicted, read_options(workspace))  # as a run that was interrupted before the lookup
    assert exit_code(["edits", str(workspace.path), "--json"]) == 0
    assert not json.loads(capsys.readouterr().out)["written"]
    again(workspace)
    assert exit_code(["edits", str(workspace.path), "--list", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["written"], len(content["edits"])) == (True, 1)
    assert exit_code(["edits", str(workspace.path), "--list", "--undo", "1"]) == 2


def test_a_workspace_without_a_merge_tree_has_nothing_to_edit(affinities: str, tmp_path: Path) -> None:
    workspace = segmented(affinities, tmp_path / "w", keep="segmentation")
    with pytest.raises(InputError, match="no fragments or no merge tree"):
        add_edits(workspace, read_plan(workspace), [edit(JOIN, ((0, 0, 0), (1, 1, 1)))])


def test_edits_of_a_workspace_can_be_applied_to_another_one(affinities: str, tmp_path: Path) -> None:
    first, second = segmented(affinities, tmp_path / "first"), segmented(affinities, tmp_path / "second")
    plan = read_plan(first)
    add_edits(first, plan, [edit(JOIN, two_points(first, joined=False))])
    add_edits(first, plan, [edit(SPLIT, two_points(first, joined=True))])
    undo_edit(first, 1)
    again(first)
    assert exit_code(["edits", str(second.path), "--apply", str(first.edits)]) == 0
    assert not {name: different for name, different in compared(first, second) if different}
    assert exit_code(["report", str(first.path)]) == 0
    assert f"neuroseg edits COPY --apply {first.edits}" in (first.path / "report.html").read_text()


def test_a_suspect_that_was_decided_by_hand_is_not_listed_again(affinities: str, tmp_path: Path) -> None:
    workspace = segmented(affinities, tmp_path / "w")
    plan, fragments = read_plan(workspace), np.asarray(open_array(workspace.fragments)[:])

    def suspects(kind: str) -> dict[tuple[int, ...], Suspect]:
        return {each.fragments: each for each in suspects_of(str(workspace.path), top=500) if each.kind == kind}

    for kind, edited in (("doubtful split", JOIN), ("doubtful merge", SPLIT)):
        pair = next(iter(suspects(kind)))
        one, other = (triple(np.argwhere(fragments == fragment)[0].tolist()) for fragment in pair)
        add_edits(workspace, plan, [edit(edited, (one, other))])
        again(workspace)
        assert pair not in suspects(kind)


def test_a_repeated_number_is_refused_and_lines_without_one_are_numbered(tmp_path: Path) -> None:
    line = '{"edit": 1, "kind": "join", "points_voxels": [[0, 0, 0], [1, 1, %d]]}'
    file = tmp_path / "two.jsonl"
    file.write_text(f"{line % 1}\n{line % 2}\n")
    with pytest.raises(InputError, match=r"line 2 of .* has the number 1 of line 1"):
        edits_in(file)
    file.write_text(f"{line % 1}\n{line % 2}\n".replace('"edit": 1, ', ""))
    assert len(edits_in(file)) == 2


def test_two_programs_lose_no_edit_of_each_other(affinities: str, tmp_path: Path) -> None:
    workspace = segmented(affinities, tmp_path / "w")
    plan, fragments = read_plan(workspace), np.asarray(open_array(workspace.fragments)[:])
    voxels = [triple(np.argwhere(fragments == fragment)[0].tolist()) for fragment in np.unique(fragments)[1:17]]
    pairs = [edit(JOIN, (voxels[0], other)) for other in voxels[1:]]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda each: change_edits(workspace, plan, [each]), pairs))
    active = read_edits(workspace).active
    assert [each.number for each in active] == list(range(1, len(pairs) + 1))
    assert {each.points_voxels for each in active} == {each.points_voxels for each in pairs}
    assert not workspace.edits.with_suffix(".lock").exists()


def test_edits_that_do_not_fit_new_fragments_are_all_named_and_the_others_can_be_changed(
    affinities: str, tmp_path: Path
) -> None:
    workspace = segmented(affinities, tmp_path / "w")
    plan, points = read_plan(workspace), two_points(workspace, joined=True)
    inside = np.argwhere(np.asarray(open_array(workspace.fragments)[:]) == open_array(workspace.fragments)[points[0]])
    same = triple(inside[-1].tolist())
    lines = [
        {"kind": "split", "points_voxels": [points[0], same]},
        {"kind": "split", "points_voxels": [same, points[0]]},
    ]
    workspace.edits.write_text("".join(json.dumps({"edit": n, **line}) + "\n" for n, line in enumerate(lines, 1)))
    change_edits(workspace, plan, [edit(SPLIT, points)])
    assert exit_code(["segment", str(workspace.path)]) == 1
    assert exit_code(["edits", str(workspace.path), "--undo", "1", "--undo", "2"]) == 0
    found = labels(workspace)
    assert found[points[0]] != found[points[1]]


def test_a_split_needs_a_merge_tree(affinities: str, tmp_path: Path) -> None:
    workspace = segmented(affinities, tmp_path / "w", agglomeration="gaec")
    plan = read_plan(workspace)
    change_edits(workspace, plan, [edit(JOIN, two_points(workspace, joined=False))])
    with pytest.raises(InputError, match="--agglomeration gaec computes one partition"):
        change_edits(workspace, plan, [edit(SPLIT, two_points(workspace, joined=True))])

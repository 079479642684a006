"""Edits by hand through the server: stored, shown in the cuts, undone, and refused when they are impossible."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuroseg.agglomeration.constraints import JOIN, SPLIT, Edit
from neuroseg.runs.edits import change_edits, read_edits
from neuroseg.runs.plan import read_plan
from neuroseg.storage.workspace import Workspace
from tests.viewer.conftest import Served, two_positions
from tests.viewer.test_server import asked


def posted(served: Served, content: object) -> dict[str, Any]:
    """Post a change, and return the answer."""
    status, answer = asked(served.url + "edits", json.dumps(content).encode())
    assert status == 200
    found: dict[str, Any] = json.loads(answer)
    return found


def segments_at(served: Served, positions: list[list[float]]) -> tuple[str, list[int]]:
    """Return the version of the cut of the run, and the segments at positions, from its chunks."""
    session = served.viewer.session  # type: ignore[attr-defined]
    layer = session.shown.layers["fragments"]
    cut = json.loads(asked(f"{served.url}cut?threshold={session.shown.plan.threshold!r}")[1])
    found = []
    for position in positions:
        shift = [o / s for o, s in zip(layer.offset_nm, layer.voxel_size_nm, strict=True)][::-1]
        x, y, z = (int(at - 0.5 - o) for at, o in zip(position, shift, strict=True))
        chunk = asked(f"{served.url}data/segmentation/{cut['version']}/0/{x}-{x + 1}_{y}-{y + 1}_{z}-{z + 1}")[1]
        found.append(int(np.frombuffer(chunk, "<u8")[0]))
    return cut["version"], found


def test_an_edit_is_stored_and_shown_and_undone(edited: Served) -> None:
    apart, together = two_positions(edited, joined=False), two_positions(edited, joined=True)
    version, _ = segments_at(edited, apart)
    answer = posted(edited, {"kind": "join", "points": apart})
    assert answer["error"] == ""
    assert answer["edits"][0]["positions"] == apart
    assert not answer["written"]
    newer, found = segments_at(edited, apart)
    assert newer != version
    assert found[0] == found[1]
    posted(edited, {"kind": "split", "points": together})
    one, other = segments_at(edited, together)[1]
    assert one != other
    answer = posted(edited, {"undo": 1})
    assert [edit["number"] for edit in answer["edits"]] == [2]
    one, other = segments_at(edited, apart)[1]
    assert one != other
    workspace = Workspace(Path(edited.viewer.session.address))  # type: ignore[attr-defined]
    assert [(edit.number, edit.kind) for edit in read_edits(workspace).active] == [(2, "split")]


def test_numbers_and_curve_are_those_of_the_edits(edited: Served) -> None:
    threshold = edited.viewer.session.shown.plan.threshold  # type: ignore[attr-defined]
    question = f"{edited.url}cut?threshold={threshold!r}"
    before, curve = json.loads(asked(question)[1]), json.loads(asked(edited.url + "curve")[1])
    posted(edited, {"kind": "join", "points": two_positions(edited, joined=False)})
    assert json.loads(asked(question)[1])["segments"] == before["segments"] - 1
    assert json.loads(asked(edited.url + "curve")[1]) != curve


def test_edits_of_other_programs_are_seen(edited: Served) -> None:
    session = edited.viewer.session  # type: ignore[attr-defined]
    points = two_positions(edited, joined=False)
    layer = session.shown.layers["fragments"]
    place = [
        tuple(int(at - o / s) for at, o, s in zip(point[::-1], layer.offset_nm, layer.voxel_size_nm, strict=True))
        for point in points
    ]
    workspace = Workspace(Path(session.address))
    change_edits(workspace, read_plan(workspace), [Edit(0, JOIN, (place[0], place[1]))])  # type: ignore[arg-type]
    found = segments_at(edited, points)[1]
    assert found[0] == found[1]


def test_an_impossible_edit_is_told_and_not_stored(edited: Served) -> None:
    points = two_positions(edited, joined=False)
    posted(edited, {"kind": "join", "points": points})
    for wrong, message in [
        ({"kind": "split", "points": points}, "contradicts edit 1"),
        ({"kind": "split", "points": [points[0], points[0]]}, "in one fragment"),
        ({"kind": "join", "points": [points[0], [-5, 0, 0]]}, "outside the region"),
        ({"undo": 7}, "no edit 7"),
    ]:
        answer = posted(edited, wrong)
        assert message in answer["error"]
        assert len(answer["edits"]) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b"[" * 5000, b"{}", b'{"kind": "cut", "points": [[1, 2, 3], [4, 5, 6]]}',
        b'{"kind": "join", "points": [[1, 2, 3]]}', b'{"kind": "join", "points": [[1, 2], [3, 4]]}',
        b'{"kind": "join", "points": "ab"}', b'{"kind": "join", "points": [[NaN, 2, 3], [4, 5, 6]]}',
        b'{"kind": "join", "points": [[1e999, 2, 3], [4, 5, 6]]}', b'{"undo": "x"}', b'{"undo": null}',
    ],
)  # fmt: skip
def test_a_change_that_makes_no_sense_is_400(edited: Served, content: bytes) -> None:
    assert asked(edited.url + "edits", content)[0] == 400
    assert json.loads(asked(edited.url + "edits")[1])["edits"] == []


def test_a_page_of_another_server_and_a_wrong_token_change_nothing(edited: Served) -> None:
    content = json.dumps({"kind": SPLIT, "points": two_positions(edited, joined=True)}).encode()
    base, token = edited.url.rstrip("/").rsplit("/", 1)
    assert asked(f"{base}/{token}x/edits", content)[0] == 404
    request = urllib.request.Request(edited.url + "edits", data=content, headers={"Origin": "http://evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request)
    assert json.loads(asked(edited.url + "edits")[1])["edits"] == []

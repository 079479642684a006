"""The places to inspect, in the coordinates of the viewer."""

from __future__ import annotations

import numpy as np
import pytest

from neuroseg.storage.arrays import open_array
from neuroseg.storage.workspace import Workspace
from neuroseg.viewer.session import Session


@pytest.mark.parametrize("with_truth", [True, False])
def test_a_place_lies_in_its_fragment(finished: tuple[Workspace, str], with_truth: bool) -> None:
    workspace, truth = finished
    session = Session(str(workspace.path), truth if with_truth else None)
    assert session.beginning()["places"]["name"] == ("errors" if with_truth else "suspects")
    places = session.places()["places"]
    assert places
    fragments = np.asarray(open_array(workspace.fragments)[:])
    for place in places:
        voxel = np.floor(np.array(place["position"][::-1]) - (10, 2, 100)).astype(int)
        if place["fragments"]:
            assert str(fragments[tuple(voxel)]) == place["fragments"][0]


def test_a_volume_has_no_places(finished: tuple[Workspace, str]) -> None:
    session = Session(str(finished[0].path.parent / "V.zarr"), None)
    assert list(session.shown.layers) == ["raw"]
    assert session.places() == {"places": []}
    assert session.beginning()["threshold"] is None

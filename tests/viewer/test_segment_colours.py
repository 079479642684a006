"""A segment has the colour in the viewer that it has in the figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neuroseg.storage.arrays import open_array
from neuroseg.storage.workspace import Workspace
from neuroseg.viewer.session import Session
from neuroseg.views.colours import colours_of, named_as_truth
from neuroseg.volumes.volume import open_volume
from tests.viewer.conftest import Served
from tests.viewer.pages import IN_A_BROWSER, Page


def packed(ids: np.ndarray) -> np.ndarray:
    """Return red + 256 green + 65536 blue of the colours in a figure."""
    return (np.round(255 * colours_of(ids)[..., :3]) @ [1, 256, 65536]).astype(int)


def drawn(session: Session, layer: str) -> np.ndarray:
    """Return the colour of each voxel in the viewer."""
    fragments = np.asarray(open_array(session.shown.workspace.fragments)[:])  # type: ignore[union-attr]
    names = fragments
    if layer == "segmentation":
        plan, tree = session.shown.plan, session.tree
        assert plan is not None
        assert tree is not None
        names = session.cut(plan.threshold, plan.min_size_voxels).names[tree.rows_of(fragments)]
        names = np.where(fragments > 0, names, 0)
    colours = session.colours()[layer]
    found, places = np.unique(names, return_inverse=True)
    return np.array([colours.get(str(name), 0) for name in found.tolist()])[places].reshape(names.shape)


def test_segments_and_fragments_have_the_colours_of_the_figures(finished: tuple[Workspace, str]) -> None:
    session = Session(str(finished[0].path), None)
    labels = np.asarray(open_array(finished[0].segmentation / "0")[:])
    np.testing.assert_array_equal(drawn(session, "segmentation"), packed(labels))
    fragments = np.asarray(open_array(finished[0].fragments)[:])
    np.testing.assert_array_equal(drawn(session, "fragments"), packed(fragments))


def test_with_truth_a_correct_segment_has_the_colour_of_its_object(finished: tuple[Workspace, str]) -> None:
    session = Session(str(finished[0].path), finished[1])
    labels = np.asarray(open_array(finished[0].segmentation / "0")[:])
    truth = np.asarray(open_volume(finished[1]).array[:])
    # Voxels without truth are not compared.
    named = named_as_truth(np.where(truth > 0, labels, 0), truth)
    inside = (truth > 0) & np.isin(named, truth)
    assert inside.any()
    np.testing.assert_array_equal(drawn(session, "segmentation")[inside], packed(named)[inside])
    objects = np.unique(truth[truth > 0])
    assert [session.colours()["truth"][str(each)] for each in objects.tolist()] == packed(objects).tolist()


def test_without_a_merge_tree_the_ids_of_the_segmentation_are_coloured(
    finished: tuple[Workspace, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(str(finished[0].path), None)
    monkeypatch.setattr(session, "tree", None)
    colours = session.colours()
    assert list(colours) == ["segmentation"]
    assert colours["segmentation"]["7"] == packed(np.array([7]))[0]


class TestInABrowser:
    """What neuroglancer holds."""

    pytestmark = IN_A_BROWSER

    def test_the_colours_are_set_and_not_in_the_address(self, browser: Any, served: Served) -> None:
        page = Page(browser, served.url)
        state = (
            "viewer.layerManager.getLayerByName('segmentation').layer.displayState.segmentationColorGroupState.value"
        )
        page.page.wait_for_function(f"{state}.segmentStatedColors.size > 0")
        wanted = served.viewer.session.colours()["segmentation"]  # type: ignore[attr-defined]
        found = page.page.evaluate(
            f"Object.fromEntries([...{state}.segmentStatedColors].map(([id, c]) => [String(id), Number(c)]))"
        )
        assert found == wanted
        chosen = next(iter(wanted))
        page.page.evaluate(f"{state}.segmentStatedColors.delete(BigInt('{chosen}'))")
        page.page.evaluate(f"{state}.segmentStatedColors.set(BigInt('{chosen}'), 255n)")
        page.wait()
        assert page.page.evaluate(f"{state}.toJSON().segmentColors") == {chosen: "#ff0000"}
        page.page.wait_for_function("location.hash.includes('segmentColors')")
        assert len(page.page.url) < 6000
        again = Page(browser, page.page.url)
        again.page.wait_for_function(f"{state}.segmentStatedColors.size === {len(wanted)}")
        assert again.page.evaluate(f"Number({state}.segmentStatedColors.get(BigInt('{chosen}')))") == 255
        again.page.close()
        assert page.problems == []
        page.page.close()

"""The viewer in Debian's chromium: what is drawn, what the slider changes, what is asked for."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from neuroseg.storage.workspace import Workspace
from tests.viewer.conftest import Served, two_positions
from tests.viewer.pages import IN_A_BROWSER, READY_MS, Page, colourful

pytestmark = IN_A_BROWSER


@pytest.fixture
def page(browser: Any, served: Served) -> Iterator[Page]:
    made = Page(browser, served.url)
    yield made
    made.page.close()
    assert made.problems == []


def test_every_layer_is_drawn(page: Page) -> None:
    page.page.evaluate("document.getElementById('neuroseg-panel').remove()")
    page.show()
    empty = page.picture()
    page.show("raw")
    raw = page.picture()
    assert np.mean(np.abs(raw - empty).max(-1) > 8) > 0.1
    assert abs(colourful(raw) - colourful(empty)) < 0.02, "raw is grey"
    for name in ("affinities", "fragments", "segmentation", "truth"):
        page.show(name)
        assert colourful(page.picture()) > colourful(empty) + 0.05, name


def test_the_slider_changes_what_is_drawn_and_the_numbers(page: Page) -> None:
    before, segments = page.picture(), page.number("segments")
    page.page.evaluate("viewer.position.value = viewer.position.value.map((v) => v - 3)")
    place = page.page.evaluate("[...viewer.position.value]")
    page.drag(0.95)
    assert page.number("segments") != segments
    assert page.page.evaluate("[...viewer.position.value]") == place
    after = page.picture()
    assert np.mean(np.abs(after - before).max(-1) > 8) > 0.02


def test_colours_and_selection_of_what_did_not_merge_stay(page: Page, served: Served) -> None:
    session = served.viewer.session  # type: ignore[attr-defined]
    low, high = session.cut(0.5, 0), session.cut(0.52, 0)
    kept = np.flatnonzero((low.names == high.names) & (low.names > 0))
    name = int(low.names[kept[0]])
    page.drag(0.5)
    page.page.evaluate(
        "(id) => viewer.layerManager.getLayerByName('segmentation').layer"
        ".displayState.segmentationGroupState.value.visibleSegments.add(BigInt(id))",
        str(name),
    )
    page.drag(0.52)
    selected = page.page.evaluate(
        "[...viewer.layerManager.getLayerByName('segmentation').layer"
        ".displayState.segmentationGroupState.value.visibleSegments].map(String)"
    )
    assert selected == [str(name)]


def test_an_error_of_the_list_moves_the_view(page: Page, served: Served) -> None:
    places = served.viewer.session.places()["places"]  # type: ignore[attr-defined]
    page.page.wait_for_selector("#neuroseg-panel li button")
    assert page.page.locator("#neuroseg-panel li").count() == len(places)
    bits = [place["bits"] for place in places]
    assert bits == sorted(bits, reverse=True)
    page.page.click("#neuroseg-panel li:nth-child(3) button")
    page.page.wait_for_selector('#neuroseg-panel li:nth-child(3) [aria-current="true"]')
    assert page.page.evaluate("[...viewer.position.value]") == pytest.approx(places[2]["position"])
    layers = page.page.evaluate("viewer.layerManager.managedLayers.map((layer) => layer.name)")
    assert layers == ["raw", "affinities", "fragments", "segmentation", "truth", "errors", "edits"]
    marked = "[...viewer.layerManager.getLayerByName('errors').layer.localAnnotations].length"
    assert page.page.evaluate(marked) == len(places)
    page.page.wait_for_function(
        "(n) => viewer.layerManager.getLayerByName('segmentation').layer"
        ".displayState.segmentationGroupState.value.visibleSegments.size > 0",
        arg=0, timeout=READY_MS,
    )  # fmt: skip
    page.wait()


def test_the_address_holds_the_state(page: Page, browser: Any) -> None:
    page.drag(0.42)
    page.page.wait_for_timeout(800)
    again = Page(browser, page.page.url)
    assert again.page.input_value("#neuroseg-threshold") == "0.42"
    assert again.number("segments") == page.number("segments")
    again.page.close()


def test_voxel_size_and_position_are_those_of_the_volume(page: Page) -> None:
    assert page.page.evaluate("[...viewer.coordinateSpace.value.scales]") == pytest.approx([1e-8, 1e-8, 4e-8])
    lower = page.page.evaluate("[...viewer.coordinateSpace.value.bounds.lowerBounds]")
    upper = page.page.evaluate("[...viewer.coordinateSpace.value.bounds.upperBounds]")
    assert lower == pytest.approx([100, 2, 10])
    assert upper == pytest.approx([250, 92, 50])


def test_the_panel_works_by_keyboard(page: Page) -> None:
    page.page.focus("#neuroseg-threshold")
    value = float(page.page.input_value("#neuroseg-threshold"))
    page.page.keyboard.press("ArrowLeft")
    assert float(page.page.input_value("#neuroseg-threshold")) == pytest.approx(value - 0.005)
    page.page.click('button[aria-label="Hide the panel"]')
    assert not page.page.is_visible("#neuroseg-threshold")
    page.page.click('button[aria-label="Show the panel"]')
    assert page.page.is_visible("#neuroseg-threshold")
    page.wait()


@pytest.mark.parametrize("width", [1280, 400])
def test_the_panel_lies_within_the_window(browser: Any, served: Served, width: int) -> None:
    made = Page(browser, served.url, width)
    box = made.page.locator("#neuroseg-panel").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    assert box["y"] + box["height"] <= 800
    assert made.page.evaluate("document.documentElement.scrollWidth") <= width
    last = made.page.locator("#neuroseg-panel .places li button").last
    last.click(timeout=READY_MS)  # after scrolling to it
    assert last.get_attribute("aria-current") == "true"
    made.wait()
    made.page.close()
    assert made.problems == []


def test_the_command_shows_a_workspace_until_it_is_interrupted(browser: Any, finished: tuple[Workspace, str]) -> None:
    command = [sys.executable, "-m", "neuroseg", "view", str(finished[0].path), "--no-open"]
    viewing = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert viewing.stdout is not None
    with viewing:
        made = Page(browser, viewing.stdout.readline().strip())
        assert made.number("segments")
        made.page.close()
        viewing.send_signal(signal.SIGINT)
        assert viewing.wait(20) == 130
    assert made.problems == []


def test_a_typed_threshold_is_exact_and_a_wrong_one_changes_nothing(page: Page) -> None:
    field = 'input[aria-label="Threshold as a number"]'
    for typed, shown in (("0.123", "t0.123-"), ("", "t0.123-"), ("7", "t0.123-"), ("0.00001", "t1e-05-")):
        page.page.fill(field, typed)
        page.page.dispatch_event(field, "change")
        page.page.wait_for_timeout(600)
        page.wait()
        url = page.page.evaluate("viewer.layerManager.getLayerByName('segmentation').layer.dataSources.at(-1).spec.url")
        assert f"/{shown}" in url, typed


def test_a_damaged_address_begins_anew(browser: Any, served: Served) -> None:
    made = Page(browser, served.url + "#!%7B%22layers%22:[")
    assert made.page.evaluate("viewer.layerManager.managedLayers.length") >= 5
    assert made.number("segments")
    made.page.close()
    assert made.problems == []


def labels_at(page: Page, positions: list[list[float]]) -> list[str]:
    """Return what the client shows of the segmentation at positions."""
    found = []
    for position in positions:
        page.page.evaluate("(p) => { viewer.position.value = Float32Array.from(p); }", position)
        page.wait()
        found.append(
            page.page.evaluate(
                "(p) => String(viewer.layerManager.getLayerByName('segmentation').layer.getValueAt("
                "Float32Array.from(p), { pickedRenderLayer: null }))",
                position,
            )
        )
    return found


def test_two_points_are_split_and_the_split_is_undone(browser: Any, edited: Served) -> None:
    page = Page(browser, edited.url)
    page.page.wait_for_selector("#neuroseg-panel .edits li, #neuroseg-panel .places li", timeout=READY_MS)
    positions = two_positions(edited, joined=True)
    one, other = labels_at(page, positions)
    assert one == other
    page.page.click("#neuroseg-panel .edits >> text=Split")
    for position in positions:  # without a mouse
        page.page.evaluate("(p) => { viewer.position.value = Float32Array.from(p); }", position)
        page.page.click("text=Take the centre")
    page.page.wait_for_selector("#neuroseg-panel .undo", timeout=READY_MS)
    page.wait()
    one, other = labels_at(page, positions)
    assert one != other
    marked = "[...viewer.layerManager.getLayerByName('edits').layer.localAnnotations].length"
    assert page.page.evaluate(marked) == 1
    page.page.click("#neuroseg-panel .undo")
    page.page.wait_for_function("!document.querySelector('#neuroseg-panel .undo')", timeout=READY_MS)
    page.wait()
    one, other = labels_at(page, positions)
    assert one == other
    assert page.page.evaluate(marked) == 0
    assert page.problems == []
    page.page.close()


def test_two_points_are_joined_by_clicks(browser: Any, edited: Served) -> None:
    page = Page(browser, edited.url)
    page.page.wait_for_selector("#neuroseg-panel .edits li, #neuroseg-panel .places li", timeout=READY_MS)
    positions = two_positions(edited, joined=False)
    page.page.evaluate("viewer.layout.restoreState('xy'); viewer.navigationState.zoomBy(0.2)")
    page.page.click("#neuroseg-panel .edits >> text=Join")
    for position in positions:
        page.page.evaluate("(p) => { viewer.position.value = Float32Array.from(p); }", position)
        page.wait()
        view = page.page.locator(".neuroglancer-rendered-data-panel").bounding_box()
        page.page.mouse.move(view["x"] + view["width"] / 2, view["y"] + view["height"] / 2, steps=3)
        page.page.wait_for_timeout(300)
        page.page.mouse.down()
        page.page.mouse.up()
    page.page.wait_for_selector("#neuroseg-panel .undo", timeout=READY_MS)
    page.wait()
    one, other = labels_at(page, positions)
    assert one == other
    assert page.problems == []
    page.page.close()


def test_escape_ends_an_edit(browser: Any, edited: Served) -> None:
    page = Page(browser, edited.url)
    page.page.click("#neuroseg-panel .edits >> text=Join")
    assert page.page.is_visible("text=Take the centre")
    page.page.keyboard.press("Escape")
    assert not page.page.is_visible("text=Take the centre")
    assert page.page.text_content("#neuroseg-panel .status") == "Cancelled."
    page.wait()
    page.page.close()


def test_a_click_on_a_mesh_is_a_point_of_its_segment(browser: Any, edited: Served) -> None:
    page = Page(browser, edited.url)
    page.page.wait_for_selector("#neuroseg-panel .edits li, #neuroseg-panel .places li", timeout=READY_MS)
    session = edited.viewer.session  # type: ignore[attr-defined]
    cut = session.cut(session.shown.plan.threshold, session.shown.plan.min_size_voxels)
    for name in session.tree.largest(cut.names, 30).tolist():
        page.page.evaluate(
            "(id) => viewer.layerManager.getLayerByName('segmentation').layer.displayState"
            ".segmentationGroupState.value.visibleSegments.add(BigInt(id))",
            str(name),
        )
    # From behind: the positions on the meshes lie just outside of their voxels.
    page.page.evaluate("viewer.projectionOrientation.restoreState([1, 0, 0, 0])")
    page.page.evaluate("viewer.layout.restoreState('3d'); viewer.showPerspectiveSliceViews.value = false")
    page.wait()
    page.page.click("#neuroseg-panel .edits >> text=Join")
    view = page.page.locator(".neuroglancer-rendered-data-panel").bounding_box()
    clicked: list[str] = []
    for row, column in itertools.product(np.linspace(0.4, 0.6, 4).tolist(), np.linspace(0.3, 0.7, 8).tolist()):
        page.page.mouse.move(view["x"] + column * view["width"], view["y"] + row * view["height"], steps=3)
        page.page.wait_for_timeout(200)
        picked = page.page.evaluate("viewer.mouseState.active ? String(viewer.mouseState.pickedValue) : ''")
        if picked in ("", "0", *clicked) or len(clicked) == 2:
            continue
        page.page.mouse.down()
        page.page.mouse.up()
        clicked.append(picked)
    assert len(clicked) == 2
    page.page.wait_for_selector("#neuroseg-panel .undo", timeout=READY_MS)
    (stored,) = session.edits.now().active
    rows = session.tree.rows_of(np.array([session.edits._labels[point] for point in stored.points_voxels], np.uint64))
    assert [str(name) for name in cut.names[rows].tolist()] == clicked
    page.wait()
    assert page.problems == []
    page.page.close()


def test_a_page_follows_the_edits_of_another_one(browser: Any, edited: Served) -> None:
    one, other = Page(browser, edited.url), Page(browser, edited.url)
    for page in (one, other):
        page.page.wait_for_selector("#neuroseg-panel .places li", timeout=READY_MS)
    before = other.number("segments")
    one.page.click("#neuroseg-panel .edits >> text=Join")
    for position in two_positions(edited, joined=False):
        one.page.evaluate("(p) => { viewer.position.value = Float32Array.from(p); }", position)
        one.page.click("text=Take the centre")
    other.page.wait_for_selector("#neuroseg-panel .undo", timeout=READY_MS)
    other.page.wait_for_function(
        "(n) => document.querySelector('#neuroseg-panel dd[data-key=segments]').textContent !== n", arg=before
    )
    for page in (one, other):
        page.wait()
        assert page.problems == []
        page.page.close()

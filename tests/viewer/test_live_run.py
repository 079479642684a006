"""A run that goes on while a browser shows it: blocks appear when they are done, and layers when they exist."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from scipy import ndimage

from neuroseg.execution.task import Begin
from neuroseg.runs import pipeline
from neuroseg.runs.options import Options
from tests.viewer.conftest import serving
from tests.viewer.pages import IN_A_BROWSER, READY_MS, Page, colourful

pytestmark = IN_A_BROWSER

SHAPE, BLOCK = (16, 64, 128), (16, 64, 32)
LONGEST_S = 60.0


class Paused:
    """A run in a thread that waits after each block of affinities until the test lets it go on."""

    def __init__(self, options: Options) -> None:
        self.options, self._allowed, self._done = options, threading.Semaphore(0), threading.Semaphore(0)
        self.failure: Exception | None = None
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            pipeline.run(self.options, begin=self._begin())
        except Exception as error:
            self.failure = error

    def _begin(self) -> Begin:
        def begin(stage: str, blocks: int, voxels: int) -> Callable[[int, int], None]:
            known = [0]

            def shown(done: int, failed: int) -> None:
                if stage == "affinities" and done > known[0]:
                    known[0] = done
                    self._done.release()
                    self._allowed.acquire(timeout=LONGEST_S)

            return shown

        return begin

    def wait_for_a_block(self) -> None:
        """Wait until one more block is done."""
        assert self._done.acquire(timeout=LONGEST_S)

    def go_on(self, blocks: int = 1) -> None:
        """Let this number of blocks run."""
        self._allowed.release(blocks)


@pytest.fixture
def run(tmp_path: Path, tiny_model: str) -> Paused:
    smooth = ndimage.gaussian_filter(np.random.default_rng(3).random(SHAPE), (1, 3, 3))
    raw = np.round(255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    zarr.create_array(str(tmp_path / "V.zarr"), shape=SHAPE, dtype="u1", attributes={"voxel_size": [10, 10, 10]})[:] = (
        raw
    )
    given = {"volume": str(tmp_path / "V.zarr"), "output": str(tmp_path / "w.neuroseg"), "model": tiny_model}
    blocks = ",".join(map(str, BLOCK))
    return Paused(Options.model_validate({**given, "executor": "serial", "force": True, "blocks": blocks}))


def share_of_colour(page: Page, block: int) -> float:
    """Return how much of the view around the middle of a block has a colour."""
    z, y, x = SHAPE[0] / 2, SHAPE[1] / 2, BLOCK[2] * (block + 0.5)
    page.page.evaluate("(p) => { viewer.position.value = Float32Array.from(p); }", [x, y, z])
    picture = page.picture()
    view = page.page.locator(".neuroglancer-rendered-data-panel").bounding_box()
    row, column = int(view["y"] + view["height"] / 2), int(view["x"] + view["width"] / 2)
    return colourful(picture[row - 20 : row + 20, column - 10 : column + 10])


def test_blocks_and_layers_appear_while_a_run_goes_on(browser: Any, run: Paused) -> None:
    run.thread.start()
    run.wait_for_a_block()
    with serving(Path(str(run.options.output))) as served:
        page = Page(browser, served.url)
        names = "viewer.layerManager.managedLayers.map((layer) => layer.name).join()"
        assert page.page.evaluate(names).startswith("raw,affinities")
        page.page.evaluate("document.getElementById('neuroseg-panel').classList.add('collapsed')")
        page.page.evaluate("viewer.layout.restoreState('xy')")
        page.show("affinities")
        page.wait()
        assert share_of_colour(page, 0) > 0.3
        assert share_of_colour(page, 1) < 0.05
        run.go_on()
        run.wait_for_a_block()
        generation = "viewer.layerManager.getLayerByName('affinities').layer.dataSources[0].spec.url.split('/g')[1]"
        page.page.wait_for_function(f"{generation} === '2'", timeout=READY_MS)
        assert share_of_colour(page, 1) > 0.3
        assert share_of_colour(page, 2) < 0.05
        run.go_on(SHAPE[2] // BLOCK[2])
        page.page.wait_for_function(
            "window.viewer?.layerManager.managedLayers.some((layer) => layer.name === 'segmentation')", timeout=READY_MS
        )
        run.thread.join(LONGEST_S)
        assert run.failure is None
        page.page.wait_for_selector('#neuroseg-panel dd[data-key="segments"]', timeout=READY_MS, state="attached")
        page.wait()
        assert page.problems == []
        page.page.close()

"""A page in Debian's chromium, for tests that look at what a browser shows."""

from __future__ import annotations

import io
import shutil
from typing import Any

import numpy as np
import pytest
from PIL import Image

CHROMIUM = shutil.which("chromium")
IN_A_BROWSER = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium"),
    pytest.mark.xdist_group("browser"),
]
READY_MS = 60_000
# Software rendering: the same pictures on any machine.
FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


class Page:
    """A page that records console errors and requests to other hosts."""

    def __init__(self, browser: Any, url: str, width: int = 1280, height: int = 800) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": height})
        self.problems: list[str] = []
        self.page.on("console", lambda said: self.problems.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", self._note)
        self.page.goto(url)
        self.wait()

    def _note(self, request: Any) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "data:", "blob:")):
            self.problems.append(f"asked {request.url}")

    def wait(self) -> None:
        self.page.wait_for_function("window.viewer && window.viewer.isReady()", timeout=READY_MS)
        self.page.wait_for_timeout(500)

    def picture(self) -> np.ndarray:
        self.wait()
        return np.asarray(Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")).astype(int)

    def number(self, key: str) -> str:
        return str(self.page.text_content(f'#neuroseg-panel dd[data-key="{key}"]'))

    def show(self, *names: str) -> None:
        """Show only these layers."""
        self.page.evaluate(
            "(names) => viewer.layerManager.managedLayers.forEach((l) => l.setVisible(names.includes(l.name)))",
            list(names),
        )

    def drag(self, threshold: float) -> None:
        """Move the slider, and wait until the segmentation has followed."""
        self.page.fill("#neuroseg-threshold", str(threshold))
        self.page.wait_for_function(
            "(t) => { const s = viewer.layerManager.getLayerByName('segmentation').layer.dataSources;"
            " return s.length === 1 && s[0].spec.url.includes(`/t${t}-`); }",
            arg=threshold, timeout=READY_MS,
        )  # fmt: skip


def colourful(picture: np.ndarray) -> float:
    """Return the share of pixels with a colour."""
    return float(np.mean(picture.max(-1) - picture.min(-1) > 30))

"""A finished workspace with truth, and a server for it."""

from __future__ import annotations

import asyncio
import queue
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from scipy import ndimage

from neuroseg.geometry import whole
from neuroseg.runs import pipeline
from neuroseg.runs.options import Options
from neuroseg.storage.workspace import Workspace
from neuroseg.viewer.places import middle_of
from tests.viewer.pages import CHROMIUM, FLAGS

SHAPE = (40, 90, 150)
VOXEL_SIZE_NM, OFFSET_NM = [40, 10, 10], [400, 20, 1000]


def make_run(folder: Path, model: str, **more: object) -> tuple[Workspace, str]:
    """Return the workspace of an anisotropic volume with an offset, and the address of ground truth."""
    rng = np.random.default_rng(3)
    smooth = ndimage.gaussian_filter(rng.random(SHAPE), (1, 3, 3))
    raw = np.round(255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    attributes = {"voxel_size": VOXEL_SIZE_NM, "offset": OFFSET_NM}
    array = zarr.create_array(str(folder / "V.zarr"), shape=SHAPE, dtype="u1", attributes=attributes)
    array[:] = raw
    truth = zarr.create_array(str(folder / "T.zarr"), shape=SHAPE, dtype="u4", attributes=attributes)
    truth[:] = ndimage.label(raw > 128)[0]
    given = {"volume": str(folder / "V.zarr"), "output": str(folder / "w"), "model": model, "blocks": "20,48,48"}
    workspace, _ = pipeline.run(Options.model_validate({**given, "executor": "serial", "force": True, **more}))
    return workspace, str(folder / "T.zarr")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model: str) -> tuple[Workspace, str]:
    """A finished workspace, and the address of its truth."""
    return make_run(tmp_path_factory.mktemp("viewer"), tiny_model)


@dataclass
class Served:
    """A server in a thread of its own."""

    url: str
    viewer: object


@contextmanager
def serving(workspace: Path, truth: str | None = None) -> Iterator[Served]:
    """A server of a workspace, in a thread of its own."""
    from neuroseg.viewer.server import Viewer
    from neuroseg.viewer.session import Session

    made: queue.Queue[tuple[Viewer, asyncio.AbstractEventLoop, asyncio.Event]] = queue.Queue()

    async def serve() -> None:
        viewer, stop = Viewer(Session(str(workspace), truth)), asyncio.Event()
        made.put((viewer, asyncio.get_running_loop(), stop))
        await stop.wait()
        await viewer.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    viewer, loop, stop = made.get(timeout=60)
    yield Served(viewer.url, viewer)
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)


@pytest.fixture
def served(finished: tuple[Workspace, str]) -> Iterator[Served]:
    """The server of the finished workspace."""
    with serving(finished[0].path, finished[1]) as made:
        yield made


@pytest.fixture
def edited(finished: tuple[Workspace, str], tmp_path: Path) -> Iterator[Served]:
    """The server of a copy of the finished workspace, to be edited."""
    with serving(Path(shutil.copytree(finished[0].path, tmp_path / "w.neuroseg"))) as made:
        yield made


def two_positions(served: Served, *, joined: bool) -> list[list[float]]:
    """Return two positions of the page in different fragments, in one segment or in different ones."""
    session = served.viewer.session  # type: ignore[attr-defined]
    plan = session.shown.plan
    layer = session.shown.layers["fragments"]
    fragments = layer.read(whole(layer.shape))
    rows = session.tree.rows_of(fragments)
    segments = session.cut(plan.threshold, 0).names[rows]
    middle = tuple(n // 2 for n in layer.shape)
    one = np.argwhere((segments == segments[middle]) & (rows >= 0))[0]
    same = segments == segments[tuple(one)]
    other = np.argwhere((rows >= 0) & (fragments != fragments[tuple(one)]) & (same if joined else ~same))[-1]
    return [middle_of(voxel.tolist(), layer) for voxel in (one, other)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()

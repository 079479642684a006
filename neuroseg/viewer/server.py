"""The server of a viewer: the client of neuroglancer, the chunks of the layers, and the cuts of the merge tree.

    /v/TOKEN/                                           the page: neuroglancer's client and our panel (page/)
    /v/TOKEN/data/LAYER/VERSION/info                    description of a layer
    /v/TOKEN/data/LAYER/VERSION/LEVEL/BOX               a chunk
    /v/TOKEN/data/LAYER/VERSION/mesh/ID                 the mesh of a segment
    /v/TOKEN/cut?threshold=0.8&min_size=0&selected=7    a segmentation: version, number of segments, scores
    /v/TOKEN/curve                                      the same for many thresholds
    /v/TOKEN/places                                     errors or suspects, the worst first
    /v/TOKEN/colours                                    the colours of ids by layer, as in the figures
    /v/TOKEN/edits                                      the edits by hand; add or undo one (POST)
    /v/TOKEN/use                                        write the segmentation at a threshold (POST)
    /v/TOKEN/progress, /v/TOKEN/beginning               progress of a run, layers and state

Without the token, every address answers 404. The server listens on the loopback interface only.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import mimetypes
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.iostream import StreamClosedError
from tornado.netutil import bind_sockets
from tornado.web import Application, Finish, HTTPError, RequestHandler

from neuroseg.agglomeration.constraints import KINDS
from neuroseg.errors import NeurosegError
from neuroseg.viewer import meshes
from neuroseg.viewer.initial_state import SERVER
from neuroseg.viewer.segment_command import SegmentCommand
from neuroseg.viewer.session import Session

LOOPBACK = "127.0.0.1"
_TOKEN_BYTES = 16
_CHUNK_THREADS = 4


class Viewer:
    """A server for one session. `url` is its address with the token."""

    def __init__(self, session: Session, port: int = 0) -> None:
        self.session = session
        self.token = secrets.token_urlsafe(_TOKEN_BYTES)
        self.chunk_threads = ThreadPoolExecutor(_CHUNK_THREADS, thread_name_prefix="viewer chunks")
        # Many chunks may wait. The panel must not wait for them, and the slider not for the curve and the places.
        self.panel_thread = ThreadPoolExecutor(1, thread_name_prefix="viewer panel")
        self.long_thread = ThreadPoolExecutor(1, thread_name_prefix="viewer curve and places")
        self.command = SegmentCommand(session.workspace_path)
        self._lock = threading.Lock()
        sockets = bind_sockets(port, LOOPBACK)
        self.url = f"http://{LOOPBACK}:{sockets[0].getsockname()[1]}/v/{self.token}/"
        self._server = HTTPServer(_application(self))
        self._server.add_sockets(sockets)

    async def close(self) -> None:
        """Stop listening, close the connections, and end a command that the page has started."""
        self._server.stop()
        await self._server.close_all_connections()
        self.command.stop()
        for threads in (self.chunk_threads, self.panel_thread, self.long_thread):
            threads.shutdown(wait=False, cancel_futures=True)

    def newest_session(self) -> Session:
        """Return the session, a new one if there is something else to show than before."""
        with self._lock:
            if self.session.is_outdated():
                self.session = Session(self.session.address, self.session.truth)
            return self.session


def _application(viewer: Viewer) -> Application:
    given = {"viewer": viewer}
    return Application(
        [
            (r"/v/([^/]+)/data/([^/]+)/([^/]+)/(.+)", _Data, given),
            (r"/v/([^/]+)/cut", _CutAt, given),
            (r"/v/([^/]+)/curve", _Curve, given),
            (r"/v/([^/]+)/beginning", _Beginning, given),
            (r"/v/([^/]+)/places", _Places, given),
            (r"/v/([^/]+)/colours", _Colours, given),
            (r"/v/([^/]+)/edits", _Edits, given),
            (r"/v/([^/]+)/use", _Use, given),
            (r"/v/([^/]+)/progress", _Progress, given),
            (r"/v/([^/]+)/(.*)", _Page, given),
            (r"/events/([^/]+)", _Events, given),
        ],
        log_function=lambda handler: None,
    )


class _Handler(RequestHandler):  # type: ignore[misc]
    """A handler that knows its viewer and answers only to those who know the token."""

    def initialize(self, viewer: Viewer) -> None:
        self.viewer, self.session = viewer, viewer.session
        self.waiting: asyncio.Future[Any] | None = None

    def prepare(self) -> None:
        if not hmac.compare_digest(str(self.path_args[0]).encode(), self.viewer.token.encode()):
            raise HTTPError(404)

    def set_default_headers(self) -> None:
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "no-referrer")

    async def compute(self, function: Any, *given: Any, threads: ThreadPoolExecutor | None = None) -> Any:
        """Return the result of a function that runs in a thread, by default that of the panel.

        404 if something does not exist. Ends without an answer if the browser does not wait for it any more.
        """
        threads = threads or self.viewer.panel_thread
        self.waiting = asyncio.get_running_loop().run_in_executor(threads, function, *given)
        try:
            return await self.waiting
        except asyncio.CancelledError as error:
            raise Finish from error
        except KeyError as error:
            raise HTTPError(404) from error
        except NeurosegError as error:
            raise HTTPError(500, reason=_for_a_header(str(error))) from error

    def wanted(self) -> dict[str, Any]:
        """Return the JSON object of a POST. 403 from a page of another server, 400 if it is something else."""
        origin = self.request.headers.get("Origin")
        if origin is not None and origin != f"{self.request.protocol}://{self.request.host}":
            raise HTTPError(403)
        try:
            found = json.loads(self.request.body)
        except (ValueError, RecursionError) as error:
            raise HTTPError(400) from error
        if not isinstance(found, dict):
            raise HTTPError(400)
        return found

    def on_connection_close(self) -> None:
        """Do not begin a computation that no browser waits for any more."""
        if self.waiting is not None:
            self.waiting.cancel()


class _Data(_Handler):
    async def get(self, token: str, name: str, version: str, rest: str) -> None:
        """Answer with the description of a layer, a chunk, or a mesh."""
        number, _, box = rest.partition("/")
        if rest == "info":
            self.finish(await self.compute(self.session.info, name))
        elif number == "mesh":
            await self._mesh(name, version, box)
        elif number.isdigit():
            self.set_header("Content-Type", "application/octet-stream")
            self.finish(
                await self.compute(
                    self.session.chunk, name, version, int(number), box, threads=self.viewer.chunk_threads
                )
            )
        else:
            raise HTTPError(404)

    async def _mesh(self, name: str, version: str, wanted: str) -> None:
        """Answer with the description of meshes (`info`), the parts of one (`ID:0`), or a part (`ID`)."""
        segment, _, manifest = wanted.partition(":")
        if wanted == "info":
            self.finish(meshes.INFO)
        elif not segment.isdigit():
            raise HTTPError(404)
        elif manifest:
            self.finish({"fragments": [segment]})
        else:
            self.set_header("Content-Type", "application/octet-stream")
            self.finish(
                await self.compute(self.session.mesh, name, version, int(segment), threads=self.viewer.chunk_threads)
            )


class _CutAt(_Handler):
    async def get(self, token: str) -> None:
        """Answer with the segmentation at a threshold."""
        try:
            threshold, size = float(self.get_argument("threshold")), int(self.get_argument("min_size", "0"))
            selected = [int(name) for name in self.get_argument("selected", "").split(",") if name]
        except ValueError as error:
            raise HTTPError(400) from error
        self.finish(await self.compute(self.session.described_cut, threshold, size, selected))


class _Curve(_Handler):
    async def get(self, token: str) -> None:
        """Answer with the segmentations at many thresholds."""
        self.finish({"curve": await self.compute(self.session.curve, threads=self.viewer.long_thread)})


class _Places(_Handler):
    async def get(self, token: str) -> None:
        """Answer with the places to inspect."""
        self.finish(await self.compute(self.session.places, threads=self.viewer.long_thread))


class _Colours(_Handler):
    async def get(self, token: str) -> None:
        """Answer with the colours of fragments, segments and true objects."""
        self.finish(await self.compute(self.session.colours, threads=self.viewer.long_thread))


class _Beginning(_Handler):
    async def get(self, token: str) -> None:
        """Answer with the layers and the state to begin with."""
        self.finish(await self.compute(lambda: self.viewer.newest_session().beginning()))


class _Progress(_Handler):
    async def get(self, token: str) -> None:
        """Answer with the progress of a run. `more`: there is something else to show than on the page that asks."""
        newest = await self.compute(self.viewer.newest_session)
        more = newest.stamp != self.get_argument("stamp", newest.stamp)
        self.finish({**await self.compute(newest.progress), "more": more})


class _Use(_Handler):
    async def post(self, token: str) -> None:
        """Begin to write the segmentation at a threshold, as `neuroseg segment --threshold` does."""
        wanted = self.wanted()
        try:
            threshold, size = float(wanted["threshold"]), int(wanted["min_size"])
        except (ValueError, KeyError, TypeError) as error:
            raise HTTPError(400) from error
        self.finish(self.viewer.command.start(threshold, size))

    async def get(self, token: str) -> None:
        """Answer with the state of the command."""
        self.finish(self.viewer.command.state())


class _Edits(_Handler):
    async def get(self, token: str) -> None:
        """Answer with the edits."""
        self.finish(await self.compute(lambda: self.viewer.newest_session().described_edits()))

    async def post(self, token: str) -> None:
        """Undo `{"undo": number}`, or add an edit. Answer with the edits of now, or an `error` if it is impossible.

        An edit is `{"kind", "points", "segments", "threshold", "min_size"}`, with two positions (x, y, z) and for each
        the segment of the mesh that was clicked, or null. Threshold and size are those of the meshes.
        """
        wanted, edits = self.wanted(), self.session.edits
        if edits is None:
            raise HTTPError(404)
        try:
            if "undo" in wanted:
                change = partial(edits.undo, int(wanted["undo"]))
            else:
                points = [[float(value) for value in point] for point in wanted["points"]]
                segments = [None if name is None else int(name) for name in wanted.get("segments", (None, None))]
                if wanted["kind"] not in KINDS or [len(point) for point in points] != [3, 3] or len(segments) != 2:
                    raise HTTPError(400)
                shown = (float(wanted.get("threshold", 0)), int(wanted.get("min_size", 0)))
                change = partial(self.session.add_edit, wanted["kind"], points, segments, shown)
            error = await self.compute(_refusal, change)
        except (ValueError, KeyError, TypeError, OverflowError) as found:
            raise HTTPError(400) from found
        self.finish({"error": error, **await self.compute(self.session.described_edits)})


def _refusal(change: Callable[[], None]) -> str:
    """Make a change. Return why it is impossible, or an empty string."""
    try:
        change()
    except (NeurosegError, OSError) as error:
        return str(error.args[0] if isinstance(error, NeurosegError) else error)
    return ""


class _Page(_Handler):
    async def get(self, token: str, name: str) -> None:
        """Answer with a file of the page."""
        if name in ("", "index.html"):
            self.finish(await self.compute(self._index))
            return
        folders = (resources.files("neuroseg.viewer") / "page", client_folder())
        file = next((file for folder in folders if (file := folder / Path(name).name).is_file()), None)
        # There are no folders: no name leads out of the two.
        if file is None or "/" in name:
            raise HTTPError(404)
        self.set_header("Content-Type", mimetypes.guess_type(name)[0] or "application/octet-stream")
        self.finish(file.read_bytes())

    def _index(self) -> str:
        """Return the client's page with our panel, which sets the state before the client begins."""
        begin = json.dumps({"server": SERVER, **self.viewer.newest_session().beginning()}).replace("<", "\\u003c")
        head = (
            '<head><meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
            f'<script type="application/json" id="neuroseg">{begin}</script>'
            '<link rel="stylesheet" href="panel.css"><script type="module" src="panel.js"></script>'
        )
        page: str = (client_folder() / "index.html").read_text()
        return page.replace("<html>", '<html lang="en">', 1).replace("<head>", head, 1)


class _Events(_Handler):
    async def get(self, token: str) -> None:
        """Keep the connection open that the client wants. Its state is in the address of the page, not here."""
        self.set_header("Content-Type", "text/event-stream")
        self.write(":\n\n")
        self.waiting = asyncio.get_running_loop().create_future()
        with suppress(StreamClosedError, asyncio.CancelledError):
            await self.flush()
            await self.waiting


def _for_a_header(message: str) -> str:
    """Return the first line of a message as text that may stand in a header."""
    return message.partition("\n")[0].encode("ascii", "replace").decode()


def client_folder() -> Any:
    """Return the folder of neuroglancer's client, which its package contains."""
    return resources.files("neuroglancer") / "static" / "client"

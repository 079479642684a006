"""Run the server of a viewer until Ctrl-C."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from neuroseg.viewer.server import Viewer
from neuroseg.viewer.session import Session


def serve(session: Session, port: int, started: Callable[[str], None]) -> None:
    """Serve a session. Calls `started` with the address. Returns only by an interrupt.

    Raises OSError if the port is in use.
    """

    async def run() -> None:
        viewer = Viewer(session, port)
        try:
            started(viewer.url)
            await asyncio.Event().wait()
        finally:
            await viewer.close()

    asyncio.run(run())

"""The head's door to the network: workers of other machines reach the scheduler through it, with the run's secret.

    daisy (loopback alone)  <-  gateway (every interface)  <-  relay (in the worker)  <-  daisy's client

The scheduler itself cannot ask who is there; so it stays on the loopback interface and this stands in front of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from types import TracebackType

from neuroseg.errors import NeurosegError
from neuroseg.execution.handshake import NONCE_BYTES, PROOF_BYTES, is_proof, nonce, proof

_PATIENCE_S = 10.0
_PIECE_BYTES = 1 << 16
_QUIET_S, _PROBES_S, _PROBES = 15, 5, 3

logger = logging.getLogger(__name__)


class Gateway:
    """Listens while the context lasts; leaving it cuts every connection. `port` is what was given, or a free one."""

    def __init__(self, secret: bytes, scheduler_port: int, *, interface: str, port: int = 0) -> None:
        self._secret, self._scheduler_port, self._interface, self.port = secret, scheduler_port, interface, port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="gateway", daemon=True)

    def __enter__(self) -> Gateway:
        self._thread.start()
        opening = asyncio.start_server(self._admit, self._interface, self.port)
        try:
            self._server = asyncio.run_coroutine_threadsafe(opening, self._loop).result()
        except OSError as error:
            self._stop()
            raise NeurosegError(
                f"cannot listen at port {self.port} for the cluster's jobs: {error}; another run may hold it: leave "
                "`port` out of the cluster's description, or give another"
            ) from error
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._stop()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass bytes both ways for whoever knows the secret."""
        peer = writer.get_extra_info("peername")
        with contextlib.suppress(asyncio.CancelledError):
            try:
                keep_alive(writer.get_extra_info("socket"))
                await asyncio.wait_for(self._require_secret(reader, writer), _PATIENCE_S)
                await self._connect(reader, writer)
            except (PermissionError, TimeoutError, asyncio.IncompleteReadError):
                logger.warning("refused a connection from %s: it does not know the secret of this run", peer)
            except OSError as error:
                logger.info("lost the connection from %s: %s", peer, error)
        writer.close()

    async def _require_secret(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ours = nonce()
        writer.write(ours)
        answer = await reader.readexactly(NONCE_BYTES + PROOF_BYTES)
        theirs, shown = answer[:NONCE_BYTES], answer[NONCE_BYTES:]
        if not is_proof(shown, self._secret, "worker", ours, theirs):
            raise PermissionError
        writer.write(proof(self._secret, "head", ours, theirs))

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._scheduler_port)
        ways = [asyncio.ensure_future(_pass_on(*way)) for way in ((reader, back), (there, writer))]
        try:
            # Either end that closes closes both: the scheduler then gives the block to another worker.
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            back.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(_PIECE_BYTES):
            writer.write(piece)
            await writer.drain()


def keep_alive(connection: socket.socket) -> None:
    """Have the kernel find out within half a minute that the machine at the other end is gone."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _QUIET_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _PROBES_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
        # What was sent and never acknowledged would otherwise be sent again for a quarter of an hour.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * (_QUIET_S + _PROBES_S * _PROBES))

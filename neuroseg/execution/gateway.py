"""The head's door to the network: workers of other machines reach the scheduler through it, with the run's secret.

    daisy (loopback alone)  <-  gateway (every interface)  <-  relay (in the worker)  <-  daisy's client

The scheduler itself cannot ask who is there; so it stays on the loopback interface and this stands in front of it.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable
from types import TracebackType

from neuroseg.errors import NeurosegError
from neuroseg.execution.handshake import NONCE_BYTES, PROOF_BYTES, is_proof, nonce, proof

_PATIENCE_S = 10.0
_PIECE_BYTES = 1 << 16
_QUIET_S, _PROBES_S, _PROBES = 15, 5, 3

logger = logging.getLogger(__name__)


class Gateway:
    """Listens while the context lasts; leaving it cuts every connection. `port` is what was given, or a free one."""

    def __init__(self, secret: bytes, scheduler: tuple[str, int], *, interface: str, port: int = 0) -> None:
        self._secret, self._scheduler, self._interface, self.port = secret, scheduler, interface, port
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._turn = threading.Lock()
        self._closing = False

    def __enter__(self) -> Gateway:
        try:
            self._listening = socket.create_server((self._interface, self.port))
        except OSError as error:
            raise NeurosegError(
                f"cannot listen at port {self.port} for the cluster's jobs: {error}; another run may hold it: leave "
                "`port` out of the cluster's description, or give another"
            ) from error
        self.port = self._listening.getsockname()[1]
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._turn:
            self._closing = True
            for connection in (self._listening, *self._open):
                _cut(connection)
        for thread in self._threads:
            thread.join()
        self._listening.close()

    def _start(self, act: object, *given: object) -> None:
        thread = threading.Thread(target=act, args=given, name="gateway", daemon=True)  # type: ignore[arg-type]
        self._threads = [each for each in self._threads if each.is_alive()] + [thread]
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, peer = self._listening.accept()
            except OSError:
                return
            if self._keep(connection):
                self._start(self._admit, connection, peer)

    def _keep(self, connection: socket.socket) -> bool:
        """Remember a connection, to cut it in the end; False, and closed, when that has come."""
        with self._turn:
            if not self._closing:
                self._open.add(connection)
                return True
        connection.close()
        return False

    def _drop(self, connection: socket.socket) -> None:
        with self._turn:
            self._open.discard(connection)
            connection.close()

    def _admit(self, connection: socket.socket, peer: object) -> None:
        """Pass bytes both ways for whoever knows the secret."""
        try:
            keep_alive(connection)
            connection.settimeout(_PATIENCE_S)
            self._require_secret(connection)
            connection.settimeout(None)
            self._connect(connection)
        except (PermissionError, TimeoutError):
            logger.warning("refused a connection from %s: it does not know the secret of this run", peer)
        except OSError as error:
            logger.info("lost the connection from %s: %s", peer, error)
        finally:
            self._drop(connection)

    def _require_secret(self, connection: socket.socket) -> None:
        ours = nonce()
        connection.sendall(ours)
        answer = exactly(connection, NONCE_BYTES + PROOF_BYTES)
        theirs, shown = answer[:NONCE_BYTES], answer[NONCE_BYTES:]
        if not is_proof(shown, self._secret, "worker", ours, theirs):
            raise PermissionError
        connection.sendall(proof(self._secret, "head", ours, theirs))

    def _connect(self, connection: socket.socket) -> None:
        """Either end that closes closes both: the scheduler then gives the block to another worker."""
        scheduler = socket.create_connection(self._scheduler)
        if not self._keep(scheduler):
            return
        try:
            back = threading.Thread(target=pass_on, args=(scheduler, connection), name="gateway", daemon=True)
            back.start()
            pass_on(connection, scheduler)
            back.join()
        finally:
            self._drop(scheduler)


def pass_on(source: socket.socket, target: socket.socket, ended: Callable[[], None] = lambda: None) -> None:
    """Pass bytes on until either end is closed, call `ended`, then cut both."""
    with contextlib.suppress(OSError):
        # Messages are tiny and wait for each other: collecting them would cost 40 ms a block.
        target.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.suppress(OSError):
        while piece := source.recv(_PIECE_BYTES):
            target.sendall(piece)
    ended()
    _cut(source)
    _cut(target)


def exactly(connection: socket.socket, count: int) -> bytes:
    """Return the next `count` bytes; raises ConnectionError when the connection is closed before."""
    found = b""
    while len(found) < count:
        piece = connection.recv(count - len(found))
        if not piece:
            raise ConnectionError("the connection was closed")
        found += piece
    return found


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def keep_alive(connection: socket.socket) -> None:
    """Have the kernel find out within half a minute that the machine at the other end is gone."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _QUIET_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _PROBES_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
        # What was sent and never acknowledged would otherwise be sent again for a quarter of an hour.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * (_QUIET_S + _PROBES_S * _PROBES))

"""The head's door: workers of other machines come in when they have proved that they know the run's secret.

What follows the proofs is neither encrypted nor signed: who can rewrite packets between the machines can still
interfere (docs/clusters.md).
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from neuroseg.errors import NeurosegError
from neuroseg.execution.channel import Channel, introduced, keep_alive

EVERY_INTERFACE = "0.0.0.0"
_SECRET = ".secret-"
_SECRET_BYTES = 32
# So many may be about to prove themselves; one more cuts off who came first.
_MOST_STRANGERS = 64
_PAUSE_S = 0.1

logger = logging.getLogger(__name__)


class Door:
    """Listens while the context lasts. `port` is what was given, or a free one.

    `bell` can be waited at then: it rings when someone has come in.
    """

    def __init__(self, secret: bytes, *, interface: str = EVERY_INTERFACE, port: int = 0) -> None:
        self._secret, self._interface, self.port = secret, interface, port
        self._inside: queue.SimpleQueue[Channel] = queue.SimpleQueue()
        self._strangers: list[socket.socket] = []
        self._turn = threading.Lock()
        self._closing = False

    def __enter__(self) -> Door:
        try:
            self._listening = socket.create_server((self._interface, self.port))
        except OSError as error:
            raise NeurosegError(
                f"cannot listen at port {self.port} for the cluster's jobs: {error}; another run may hold it: leave "
                "`port` out of the cluster's description, or give another"
            ) from error
        self.port = self._listening.getsockname()[1]
        self.bell, self._button = socket.socketpair()
        self.bell.setblocking(False)
        self._accepting = _started(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closing = True
        _cut(self._listening)
        self._accepting.join()
        self._listening.close()
        with self._turn:
            for stranger in self._strangers:
                _cut(stranger)
        for channel in self.came():
            channel.close()
        self.bell.close()
        self._button.close()

    def came(self) -> list[Channel]:
        """Return the channels of those who have come in since the last call."""
        with contextlib.suppress(BlockingIOError):
            self.bell.recv(1 << 12)
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._inside.get_nowait())
        return found

    def _accept(self) -> None:
        while True:
            try:
                self._accept_one(*self._listening.accept())
            except (OSError, RuntimeError) as error:  # no file, or no thread, more is allowed
                if self._closing:
                    return
                logger.warning("a worker could not be let in: %s", error)
                time.sleep(_PAUSE_S)

    def _accept_one(self, end: socket.socket, peer: object) -> None:
        with self._turn:
            self._strangers.append(end)
            if len(self._strangers) > _MOST_STRANGERS:
                _cut(self._strangers[0])
        try:
            _started(self._let_in, end, peer)
        except RuntimeError:
            with self._turn:
                self._strangers.remove(end)
            end.close()
            raise

    def _let_in(self, end: socket.socket, peer: object) -> None:
        try:
            keep_alive(end)
            connection = introduced(end, self._secret, "head")
        except PermissionError as error:
            logger.warning("refused a connection from %s: it does not know the secret of this run (%s)", peer, error)
            return
        except OSError as error:
            logger.warning("lost a connection from %s: %s", peer, error)
            return
        finally:
            with self._turn:
                self._strangers.remove(end)
        self._inside.put(Channel(connection))
        with contextlib.suppress(OSError):
            self._button.send(b"!")


def _started(act: Callable[..., None], *given: object) -> threading.Thread:
    thread = threading.Thread(target=act, args=given, name="door", daemon=True)
    thread.start()
    return thread


def _cut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


@contextmanager
def new_secret(path: Path) -> Iterator[bytes]:
    """Write a new secret that this user alone can read; it is removed when the context is left."""
    path.unlink(missing_ok=True)
    secret = secrets.token_bytes(_SECRET_BYTES)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secret)
        yield secret
    finally:
        path.unlink(missing_ok=True)


def secret_path(workspace: Path, token: str) -> Path:
    """Return where the secret of a run lies; no two have one name, which machines might remember as missing."""
    return workspace / f"{_SECRET}{token}"


def forget_secrets(workspace: Path) -> None:
    """Remove what a head that was killed left: workers that miss their secret leave."""
    for left in workspace.glob(f"{_SECRET}*"):
        left.unlink(missing_ok=True)


def own_hosts() -> list[str]:
    """Return the names and addresses by which other machines may reach this one, likeliest first."""
    found = [socket.getfqdn(), socket.gethostname()]
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # Nothing is sent: the kernel only picks the interface of the default route.
        probe.connect(("192.0.2.1", 9))
        found.append(probe.getsockname()[0])
    return [host for host in dict.fromkeys(found) if not host.startswith("localhost")]

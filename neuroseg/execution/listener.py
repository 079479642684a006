"""The head's listener: accepts workers on other machines that prove that they know the run's secret.

Only the proofs are authenticated. Later messages are neither encrypted nor signed, so an attacker who can change
packets between the machines can still interfere (docs/internals/security.md).
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

from neuroseg.errors import NeurosegError
from neuroseg.execution.channel import Channel, authenticate, keep_alive

EVERY_INTERFACE = "0.0.0.0"
_SECRET = ".secret-"
_SECRET_BYTES = 32
# At most this many connections may be unproved. One more closes the oldest.
_MAX_UNPROVED = 64
_RETRY_S = 0.1

logger = logging.getLogger(__name__)


class Listener:
    """Listens for workers inside its context. `port` is the given port, or a free one if that is 0."""

    def __init__(self, secret: bytes, *, interface: str = EVERY_INTERFACE, port: int = 0) -> None:
        self._secret, self._interface, self.port = secret, interface, port
        self._accepted: queue.SimpleQueue[Channel] = queue.SimpleQueue()
        self._unproved: list[socket.socket] = []
        self._lock = threading.Lock()
        self._closing = False

    def __enter__(self) -> Listener:
        try:
            self._socket = socket.create_server((self._interface, self.port))
        except OSError as error:
            raise NeurosegError(
                f"cannot listen on port {self.port} for the workers: {error}",
                hint="remove `port` from the cluster configuration file, or choose another port" if self.port else "",
            ) from error
        self.port = self._socket.getsockname()[1]
        self._thread = _started(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        _cut(self._socket)
        self._thread.join()
        self._socket.close()
        with self._lock:
            for end in self._unproved:
                _cut(end)
        for channel in self.new_channels():
            channel.close()

    def new_channels(self) -> list[Channel]:
        """Return the channels of the workers accepted since the last call."""
        return [self._accepted.get() for _ in range(self._accepted.qsize())]

    def _accept(self) -> None:
        while True:
            try:
                self._accept_one(*self._socket.accept())
            except (OSError, RuntimeError) as error:  # no more files or threads are allowed
                if self._closing:
                    return
                logger.warning("cannot accept a worker: %s", error)
                time.sleep(_RETRY_S)

    def _accept_one(self, end: socket.socket, peer: object) -> None:
        with self._lock:
            self._unproved.append(end)
            if len(self._unproved) > _MAX_UNPROVED:
                _cut(self._unproved[0])
        try:
            _started(self._authenticate, end, peer)
        except RuntimeError:
            with self._lock:
                self._unproved.remove(end)
            end.close()
            raise

    def _authenticate(self, end: socket.socket, peer: object) -> None:
        try:
            keep_alive(end)
            connection = authenticate(end, self._secret, "head")
        except PermissionError as error:
            logger.warning("refused a connection from %s: it does not know the secret of this run (%s)", peer, error)
            return
        except OSError as error:
            logger.warning("lost a connection from %s: %s", peer, error)
            return
        finally:
            with self._lock:
                self._unproved.remove(end)
        self._accepted.put(Channel(connection))


def _started(act: Callable[..., None], *given: object) -> threading.Thread:
    thread = threading.Thread(target=act, args=given, name="listener", daemon=True)
    thread.start()
    return thread


def _cut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


@contextmanager
def new_secret(path: Path) -> Iterator[bytes]:
    """Write a new secret that only this user can read. Remove it at the end of the context."""
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
    """Return the path of a run's secret.

    `token` makes the name unique: network disks may cache that an earlier name does not exist.
    """
    return workspace / f"{_SECRET}{token}"


def remove_secrets(workspace: Path) -> None:
    """Remove the secrets of killed heads. Their workers exit when the secret is gone."""
    for left in workspace.glob(f"{_SECRET}*"):
        left.unlink(missing_ok=True)


def own_hosts() -> list[str]:
    """Return the names and addresses by which other machines may reach this one, most likely first."""
    found = [socket.getfqdn(), socket.gethostname()]
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # Sends nothing. The kernel only chooses the interface of the default route.
        probe.connect(("192.0.2.1", 9))
        found.append(probe.getsockname()[0])
    return [host for host in dict.fromkeys(found) if not host.startswith("localhost")]

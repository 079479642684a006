"""What the head and its workers say to each other: short JSON messages over a connection of multiprocessing.

    head                                          worker
                                            <-    {"job": "207_1"}   as SLURM calls it; null elsewhere
    {"open": "fragments"}                   ->    sets the stage up
                                            <-    {"opened": "fragments"}
    {"stage": "edges", "block": 7,          ->    processes the block
     "early": true}                               (not all that the stage reads is made yet)
                                            <-    {"begun": ["edges", 7]}   it may be given another one
                                            <-    {"done": ["edges", 7]}, {"failed": ["edges", 7]},
                                                  {"early": ["edges", 7], "needs": ["entries", 31]}, a part to come,
                                                  or {"full": "why nothing can be written"}
    {"close": "fragments"}                  ->    forgets the stage
    {"end": true}                           ->    leaves

A worker of this machine inherits its connection. One of another machine comes to the head's door (door.py), where both
ends prove that they know the run's secret before anything else is read. Nothing that is received is unpickled.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import secrets
import socket
import struct
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

from neuroseg.errors import NeurosegError

_MOST_BYTES = 1 << 20
_PATIENCE_S, _PROOF_S = 20.0, 10
_NONCE_BYTES, _MOST_PROOF_BYTES = 32, 256
_QUIET_S, _PROBES_S, _PROBES = 15, 5, 3


class Channel:
    """One end of a connection. Any thread may send; one receives."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._turn = threading.Lock()

    @classmethod
    def over(cls, end: socket.socket) -> Channel:
        """Return the channel over a connected socket, which it takes over."""
        end.setblocking(True)
        return cls(Connection(end.detach()))

    def fileno(self) -> int:
        """Return the descriptor to wait at for a message."""
        return self._connection.fileno()

    def send(self, message: Mapping[str, object]) -> None:
        """Send a message; one that nobody receives any more is lost, which `receive` tells."""
        with self._turn, contextlib.suppress(OSError):
            self._connection.send_bytes(json.dumps(message).encode())

    def receive(self) -> dict[str, Any] | None:
        """Return the next message, None when the other end is gone or sends what is none."""
        try:
            message = json.loads(self._connection.recv_bytes(_MOST_BYTES))
        except (EOFError, OSError, ValueError):
            return None
        return message if isinstance(message, dict) else None

    def close(self) -> None:
        """End the connection."""
        with self._turn:
            self._connection.close()


def connected(addresses: Sequence[tuple[str, int]], secret: bytes, patience_s: float = _PATIENCE_S) -> Channel:
    """Return a channel to the head at the first address where someone knows the secret.

    Raises NeurosegError when there is none: the run has ended, or no address leads there from this machine.
    """
    failures = []
    for host, port in addresses:
        try:
            end = socket.create_connection((host, port), timeout=patience_s)
        except OSError as error:
            failures.append(f"{host}:{port}: {error}")
            continue
        try:
            keep_alive(end)
            return Channel(introduced(end, secret, "worker"))
        except OSError as error:
            failures.append(f"{host}:{port} does not know the secret of this run, or not ours: {error}")
    raise NeurosegError("the head does not answer: " + "; ".join(failures))


def introduced(end: socket.socket, secret: bytes, role: str) -> Connection:
    """Return the connection over a socket when both ends have proved that they know the secret; the socket is closed.

    `role` is what this end is, head or worker. Raises PermissionError where the other end does not know the secret, or
    says nothing for ten seconds.

        head    -> worker   a nonce
        worker  -> head     a nonce of its own, and HMAC-SHA256(secret, "worker", both)
        head    -> worker   HMAC-SHA256(secret, "head", both)
    """
    with end:
        end.setblocking(True)
        _wait_at_most(end, _PROOF_S)
        connection = Connection(os.dup(end.fileno()))
        try:
            _prove(connection, secret, role)
        except (OSError, EOFError) as error:
            connection.close()
            raise PermissionError(f"no proof: {error or 'cut off'}") from error
        _wait_at_most(end, 0)
    return connection


def _prove(connection: Connection, secret: bytes, role: str) -> None:
    ours = secrets.token_bytes(_NONCE_BYTES)
    if role == "head":
        connection.send_bytes(ours)
        answer = connection.recv_bytes(_MOST_PROOF_BYTES)
        theirs, shown = answer[:_NONCE_BYTES], answer[_NONCE_BYTES:]
        if not hmac.compare_digest(shown, _proof(secret, "worker", ours, theirs)):
            raise PermissionError("it is wrong")
        connection.send_bytes(_proof(secret, "head", ours, theirs))
    else:
        theirs = connection.recv_bytes(_MOST_PROOF_BYTES)
        connection.send_bytes(ours + _proof(secret, "worker", theirs, ours))
        if not hmac.compare_digest(connection.recv_bytes(_MOST_PROOF_BYTES), _proof(secret, "head", theirs, ours)):
            raise PermissionError("it is wrong")


def _proof(secret: bytes, role: str, of_head: bytes, of_worker: bytes) -> bytes:
    """Return what shows that `role` knows the secret, for these two nonces alone."""
    return hmac.digest(secret, role.encode() + of_head + of_worker, "sha256")


def _wait_at_most(end: socket.socket, seconds: int) -> None:
    """Let what reads from a socket or sends to it fail after so many seconds; 0: never."""
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        end.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", seconds, 0))


def keep_alive(end: socket.socket) -> None:
    """Have the kernel find out within half a minute that the machine at the other end is gone; send without delay."""
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _QUIET_S)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _PROBES_S)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
        # What was sent and never acknowledged would otherwise be sent again for a quarter of an hour.
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * (_QUIET_S + _PROBES_S * _PROBES))

"""Messages between the head and its workers: short JSON texts over a connection of multiprocessing.

    head                                          worker
                                            <-    {"job": "207_1"}   SLURM's job id, null without SLURM
    {"open": "fragments"}                   ->    sets the stage up
                                            <-    {"opened": "fragments"}
    {"stage": "edges", "block": 7,          ->    processes the block
     "early": true}                               (the stages that it reads are still running)
                                            <-    {"begun": ["edges", 7]}   ready for another block
                                            <-    {"ended": ["edges", 7], "outcome": {...}}   block.Outcome, or
                                                  {"early": ["edges", 7], "needs": ["entries", 31]} (a missing part)
    {"close": "fragments"}                  ->    closes the stage
    {"end": true}                           ->    exits

A worker on this machine inherits its connection. A worker on another machine connects to the head's listener
(listener.py). Both ends prove that they know the run's secret before either reads another message. Received data is
never unpickled.
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

_MAX_BYTES = 1 << 24
_CONNECT_TIMEOUT_S, _PROOF_TIMEOUT_S = 20.0, 10
_NONCE_BYTES, _MAX_PROOF_BYTES = 32, 256
_IDLE_S, _PROBE_EVERY_S, _PROBES = 15, 5, 3


class Channel:
    """One end of a connection. Any thread may send; one thread receives."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    @classmethod
    def over(cls, end: socket.socket) -> Channel:
        """Return a channel over a connected socket. The channel owns the socket from now on."""
        end.setblocking(True)
        return cls(Connection(end.detach()))

    def fileno(self) -> int:
        """Return the file descriptor that becomes readable when a message arrives."""
        return self._connection.fileno()

    def send(self, message: Mapping[str, object]) -> None:
        """Send a message. If the other end is gone, nothing is raised; `receive` then returns None."""
        with self._lock, contextlib.suppress(OSError):
            self._connection.send_bytes(json.dumps(message).encode())

    def receive(self) -> dict[str, Any] | None:
        """Return the next message. Return None if the other end is gone or sends anything else."""
        try:
            message = json.loads(self._connection.recv_bytes(_MAX_BYTES).decode())
        except (EOFError, OSError, ValueError):
            return None
        return message if isinstance(message, dict) else None

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()


def connect(addresses: Sequence[tuple[str, int]], secret: bytes, timeout_s: float = _CONNECT_TIMEOUT_S) -> Channel:
    """Return a channel to the head at the first address that proves that it knows the secret.

    Raises NeurosegError if no address does: the run has ended, or this machine cannot reach the head.
    """
    failures = []
    for host, port in addresses:
        try:
            end = socket.create_connection((host, port), timeout=timeout_s)
        except OSError as error:
            failures.append(f"{host}:{port}: {error}")
            continue
        try:
            keep_alive(end)
            return Channel(authenticate(end, secret, "worker"))
        except OSError as error:
            failures.append(f"{host}:{port}: authentication failed: {error}")
    raise NeurosegError("cannot connect to the head: " + "; ".join(failures))


def authenticate(end: socket.socket, secret: bytes, role: str) -> Connection:
    """Return a connection over a socket after both ends have proved that they know the secret. Closes the socket.

    `role` is the role of this end, `head` or `worker`. Raises PermissionError if the other end does not know the secret
    or sends nothing for 10 seconds.

        head    -> worker   a nonce
        worker  -> head     the worker's nonce, and HMAC-SHA256(secret, "worker", both nonces)
        head    -> worker   HMAC-SHA256(secret, "head", both nonces)
    """
    with end:
        end.setblocking(True)
        _set_timeout(end, _PROOF_TIMEOUT_S)
        connection = Connection(os.dup(end.fileno()))
        try:
            _prove(connection, secret, role)
        except (OSError, EOFError) as error:
            connection.close()
            raise PermissionError(f"no valid proof: {error or 'connection closed'}") from error
        _set_timeout(end, 0)
    return connection


def _prove(connection: Connection, secret: bytes, role: str) -> None:
    ours = secrets.token_bytes(_NONCE_BYTES)
    if role == "head":
        connection.send_bytes(ours)
        answer = connection.recv_bytes(_MAX_PROOF_BYTES)
        theirs, shown = answer[:_NONCE_BYTES], answer[_NONCE_BYTES:]
        if not hmac.compare_digest(shown, _proof(secret, "worker", ours, theirs)):
            raise PermissionError("the proof is wrong")
        connection.send_bytes(_proof(secret, "head", ours, theirs))
    else:
        theirs = connection.recv_bytes(_MAX_PROOF_BYTES)
        connection.send_bytes(ours + _proof(secret, "worker", theirs, ours))
        if not hmac.compare_digest(connection.recv_bytes(_MAX_PROOF_BYTES), _proof(secret, "head", theirs, ours)):
            raise PermissionError("the proof is wrong")


def _proof(secret: bytes, role: str, of_head: bytes, of_worker: bytes) -> bytes:
    """Return the proof that `role` knows the secret. It is valid for these two nonces only."""
    return hmac.digest(secret, role.encode() + of_head + of_worker, "sha256")


def _set_timeout(end: socket.socket, seconds: int) -> None:
    """Set the time after which reading from or sending to a socket fails. 0 means no limit."""
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        end.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", seconds, 0))


def keep_alive(end: socket.socket) -> None:
    """Detect within 30 seconds that the machine at the other end is gone, and send without delay."""
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE_S)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _PROBE_EVERY_S)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
        # Otherwise, the kernel resends unacknowledged data for 15 minutes.
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * (_IDLE_S + _PROBE_EVERY_S * _PROBES))

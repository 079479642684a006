"""The worker's end of the gateway: a port on its own machine that leads to the scheduler, for this process alone."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from neuroseg.errors import NeurosegError
from neuroseg.execution.gateway import exactly, keep_alive, pass_on
from neuroseg.execution.handshake import NONCE_BYTES, PROOF_BYTES, is_proof, nonce, proof

_PATIENCE_S = 20.0
_LOOPBACK = "0100007F"  # 127.0.0.1 in /proc/net/tcp

logger = logging.getLogger(__name__)


def connected(addresses: list[tuple[str, int]], secret: bytes) -> socket.socket:
    """Return a connection to the head at the first address where someone knows the secret.

    Raises NeurosegError when there is none: the run has ended, or no address leads there from this machine.
    """
    failures = []
    for address in addresses:
        try:
            connection = socket.create_connection(address, timeout=_PATIENCE_S)
        except OSError as error:
            failures.append(f"{address[0]}:{address[1]}: {error}")
            continue
        try:
            _introduce(connection, secret)
        except OSError as error:
            connection.close()
            failures.append(f"{address[0]}:{address[1]} does not know the secret of this run, or not ours: {error}")
            continue
        connection.settimeout(None)
        keep_alive(connection)
        return connection
    raise NeurosegError("the head does not answer: " + "; ".join(failures))


def _introduce(connection: socket.socket, secret: bytes) -> None:
    theirs, ours = exactly(connection, NONCE_BYTES), nonce()
    connection.sendall(ours + proof(secret, "worker", theirs, ours))
    if not is_proof(exactly(connection, PROOF_BYTES), secret, "head", theirs, ours):
        raise PermissionError("wrong proof")


def open_relay(connect: Callable[[], socket.socket], lost: Callable[[], None]) -> int:
    """Return a port on the loopback interface; who connects to it from this user's processes is passed on.

    `connect` opens one more connection to the head; `lost` is called when the head's end of one closes first.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    port: int = listening.getsockname()[1]
    threading.Thread(target=_serve, args=(listening, connect, lost), name="relay", daemon=True).start()
    return port


def _serve(listening: socket.socket, connect: Callable[[], socket.socket], lost: Callable[[], None]) -> None:
    while True:
        near, _ = listening.accept()
        if not _is_ours(near):
            logger.warning("refused a connection that is not of this user's processes")
            near.close()
            continue
        try:
            far = connect()
        except NeurosegError as error:
            logger.warning("%s", error)
            near.close()
            continue
        left = threading.Event()
        threading.Thread(target=pass_on, args=(near, far, left.set), daemon=True).start()
        threading.Thread(target=pass_on, args=(far, near, partial(_unless, left, lost)), daemon=True).start()


def _unless(left: threading.Event, lost: Callable[[], None]) -> None:
    """Call `lost` unless it was this process that left."""
    if not left.is_set():
        lost()


def _is_ours(near: socket.socket) -> bool:
    """Return whether a connection to this relay comes from a process of this user, as the kernel's table has it.

    From any other address than 127.0.0.1, or where there is no such table, it does not.
    """
    try:
        ends = [f"{_LOOPBACK}:{port:04X}" for host, port in (near.getpeername(), near.getsockname())]
        rows = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    except OSError:
        return False
    return any(row[1:3] == ends and int(row[7]) == os.getuid() for row in rows)

"""Where the scheduler listens: daisy chooses its port and does not report it, so each gets an address of its own.

All of 127.0.0.0/8 is the loopback interface (Linux). Nothing else in this process listens at an address drawn at
random, whatever servers it opens meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import struct
from pathlib import Path

from neuroseg.errors import NeurosegError

_LISTENING = "0A"  # net/tcp_states.h
_LOOPBACK_NET, _HOSTS = 127 << 24, 1 << 24


def loopback_address() -> str:
    """Return a random address of the loopback interface, not 127.0.0.1 nor the first and last of the network."""
    return socket.inet_ntoa(struct.pack(">I", _LOOPBACK_NET + 2 + secrets.randbelow(_HOSTS - 3)))


def listening_port(host: str) -> int | None:
    """Return the port at which this process listens at a loopback address, None while it does not.

    Raises NeurosegError off Linux.
    """
    inodes = set()
    try:
        for descriptor in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):
                inodes.add(os.readlink(f"/proc/self/fd/{descriptor}"))
        lines = Path("/proc/self/net/tcp").read_text().splitlines()[1:]
    except OSError as error:
        raise NeurosegError(f"cannot tell which ports this process listens at: {error}; clusters need Linux") from error
    (number,) = struct.unpack("=I", socket.inet_aton(host))  # the kernel's table has the bytes in this order
    for line in lines:
        cells = line.split()
        address, _, port = cells[1].partition(":")
        if cells[3] == _LISTENING and address == f"{number:08X}" and f"socket:[{cells[9]}]" in inodes:
            return int(port, 16)
    return None

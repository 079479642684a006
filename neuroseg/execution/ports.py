"""The ports at which this process listens, as the kernel tells: daisy does not say at which its scheduler does."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from neuroseg.errors import NeurosegError

_LISTENING = "0A"  # net/tcp_states.h
_LOOPBACK = "0100007F"


def listening_ports() -> set[int]:
    """Return the ports of the loopback interface at which this process listens; raises NeurosegError off Linux."""
    inodes = set()
    try:
        for descriptor in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):
                inodes.add(os.readlink(f"/proc/self/fd/{descriptor}"))
        lines = Path("/proc/self/net/tcp").read_text().splitlines()[1:]
    except OSError as error:
        raise NeurosegError(f"cannot tell which ports this process listens at: {error}; clusters need Linux") from error
    found = set()
    for line in lines:
        cells = line.split()
        host, _, port = cells[1].partition(":")
        if cells[3] == _LISTENING and host == _LOOPBACK and f"socket:[{cells[9]}]" in inodes:
            found.add(int(port, 16))
    return found

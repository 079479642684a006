"""The main program of a worker on this machine: `python -m neuroseg.workers.local WORKSPACE HEAD`.

The executor `local` (execution/local.py) starts it. HEAD is the process id of the head. stdin is the socket to the
head.
"""

from __future__ import annotations

import ctypes
import logging
import os
import socket
import sys
from pathlib import Path

from neuroseg.execution.channel import Channel
from neuroseg.execution.parent import die_with_parent


def main(workspace: str, head: str) -> None:
    """Process the head's blocks until the run is over."""
    die_with_parent(int(head))
    channel = Channel.over(socket.socket(fileno=os.dup(0)))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # child processes must not keep the connection open
    from neuroseg.runs.worker import work

    work(Path(workspace), channel)
    # All blocks are reported, so there is nothing left to do. The interpreter's own end takes half a second.
    logging.shutdown()
    sys.stdout.flush()
    ctypes.CDLL(None).fflush(None)  # output of compiled libraries
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])

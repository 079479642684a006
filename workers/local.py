"""The main of a worker process of this machine: `python -m neuroseg.workers.local WORKSPACE HEAD`.

Started by the executor `local` (execution/local.py), whose process id is HEAD; its input is the socket to it.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from neuroseg.execution.channel import Channel
from neuroseg.execution.parent import die_with_parent


def main(workspace: str, head: str) -> None:
    """Serve the head."""
    die_with_parent(int(head))
    channel = Channel.over(socket.socket(fileno=os.dup(0)))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # what this process starts must not hold the connection
    from neuroseg.runs.worker import work

    work(Path(workspace), channel)


if __name__ == "__main__":
    main(*sys.argv[1:])

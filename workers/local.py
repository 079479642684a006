"""The main of a worker process: `python -m neuroseg.workers.local WORKSPACE STAGE`, or `--standing`.

Started by the executor `local`; finds its scheduler through the environment variable that daisy sets. A standing worker
is hired through the socket that is its input, and learns from visitors what to do (execution/standing.py).
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from neuroseg.run.worker import drain_stage, set_up, stand


def main(*arguments: str) -> None:
    """Drain one stage, or stand."""
    if arguments == ("--standing",):
        stand(socket.socket(fileno=sys.stdin.fileno()))
        return
    workspace_path, stage_name = arguments
    set_up()
    drain_stage(Path(workspace_path), stage_name)


if __name__ == "__main__":
    main(*sys.argv[1:])

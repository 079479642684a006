"""The main of a worker process: `python -m neuroseg.workers.local WORKSPACE STAGE`, or `WORKSPACE --standing FD`.

Started by the executor `local`; finds its scheduler through the environment variable that daisy sets. A standing worker
learns of stage and scheduler through the socket with that file descriptor, again and again (execution/standing.py).
"""

from __future__ import annotations

import functools
import logging
import signal
import socket
import sys
from pathlib import Path

from neuroseg.execution.scheduler import drain
from neuroseg.execution.standing import serve
from neuroseg.execution.work import forget_peak_memory
from neuroseg.plan import read_plan
from neuroseg.storage.arrays import use_threads
from neuroseg.storage.workspace import Workspace


def main(workspace_path: str, stage_name: str, *standing: str) -> None:
    """Drain one stage, or whatever stages visitors name."""
    set_up()
    if standing:
        serve(socket.socket(fileno=int(standing[0])), functools.partial(drain_stage, workspace_path))
    else:
        drain_stage(workspace_path, stage_name)


def set_up() -> None:
    """Have messages written with their time, one thread used, and interrupts obeyed."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # Blocks are atomic: a worker that is interrupted dies at once, whatever its threads are doing.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    use_threads(1)


def drain_stage(workspace_path: str, stage_name: str, *, alone: bool = False) -> None:
    """Rebuild the stage from the workspace's run.yaml and drain its blocks; `alone` as in scheduler.drain."""
    forget_peak_memory()
    workspace = Workspace(Path(workspace_path))
    stage = read_plan(workspace).stage(workspace, stage_name)
    drain(stage, workspace.ledger(stage.name, stage.identity, stage.scope), alone=alone)


if __name__ == "__main__":
    main(*sys.argv[1:])

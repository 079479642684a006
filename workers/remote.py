"""The main program of a worker on another machine: `python -m neuroseg.workers.remote WORKSPACE TOKEN HEAD KIND`.

A cluster starts it. It connects to the head (HOST:PORT,...), proves that it knows the secret in the workspace, and
processes blocks.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from pathlib import Path

from neuroseg.errors import NeurosegError
from neuroseg.execution.cluster.program import Head, end_with_job
from neuroseg.execution.cluster.slurm_commands import cancel_own_jobs
from neuroseg.runs.worker import set_up, work

_CHECK_EVERY_S = 2.0

logger = logging.getLogger(__name__)


def main(workspace: str, token: str, head: str, kind: str) -> None:
    """Process the head's blocks until the run is over. Exit without an error if the run has already ended."""
    set_up()
    end_with_job()
    logger.info("%s worker of %s on %s", kind, workspace, socket.gethostname())
    try:
        found = Head(workspace, token, head)
        channel = found.connect()
    except FileNotFoundError as error:
        logger.info("the run has ended, or this machine does not see the workspace: %s", error)
        cancel_own_jobs(token)
        return
    except NeurosegError as error:
        logger.error("%s", error)
        sys.exit(1)
    threading.Thread(target=_watch, args=(found.secret,), name="secret", daemon=True).start()
    work(Path(workspace), channel, exit_on_setup_error=True, on_lost_head=found.cancel_jobs_if_gone)
    logger.info("the run is over")


def _watch(secret: Path) -> None:
    """Exit this process soon after its secret is removed: the run is over, or another run has begun."""
    while secret.exists():
        time.sleep(_CHECK_EVERY_S)
    time.sleep(_CHECK_EVERY_S)  # time to receive the message `end` from the head
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])

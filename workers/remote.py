"""The main program of a worker on another machine: `python -m neuroseg.workers.remote WORKSPACE TOKEN HOST:PORT,...`.

A cluster starts it. It connects to the head, proves that it knows the secret in the workspace, and processes blocks.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

from neuroseg.errors import NeurosegError
from neuroseg.execution.channel import connect
from neuroseg.execution.cluster.slurm_commands import cancel_own_jobs
from neuroseg.execution.listener import secret_path
from neuroseg.execution.parent import die_with_parent
from neuroseg.runs.worker import set_up, work

_CHECK_EVERY_S, _CONNECT_TIMEOUT_S = 2.0, 3.0

logger = logging.getLogger(__name__)


def main(workspace: str, token: str, head: str) -> None:
    """Process the head's blocks until the run is over. Exit without an error if the run has already ended."""
    set_up()
    if parent := os.environ.get("NEUROSEG_DIES_WITH"):
        die_with_parent(int(parent))
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    logger.info("worker of %s on %s", workspace, socket.gethostname())
    addresses = [(host, int(port)) for host, _, port in (one.rpartition(":") for one in head.split(","))]
    path = secret_path(Path(workspace), token)
    try:
        secret = path.read_bytes()
        channel = connect(addresses, secret)
    except FileNotFoundError:
        logger.info("%s does not exist: the run has ended, or this machine does not see the workspace", path)
        cancel_own_jobs(token)
        return
    except NeurosegError as error:
        logger.error("%s", error)
        sys.exit(1)

    def on_lost_head() -> None:
        """Cancel the other jobs of the run if the head is gone. If it still answers, it dropped only this worker."""
        try:
            connect(addresses, secret, timeout_s=_CONNECT_TIMEOUT_S).close()
        except NeurosegError as error:
            logger.warning("this worker exits: %s", error)
            cancel_own_jobs(token)

    threading.Thread(target=_watch, args=(path,), name="secret", daemon=True).start()
    work(Path(workspace), channel, exit_on_setup_error=True, on_lost_head=on_lost_head)
    logger.info("the run is over")


def _watch(secret: Path) -> None:
    """Exit this process soon after its secret is removed: the run is over, or another run has begun."""
    while secret.exists():
        time.sleep(_CHECK_EVERY_S)
    time.sleep(_CHECK_EVERY_S)  # time to receive the message `end` from the head
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])

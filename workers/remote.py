"""The main of a worker on another machine: `python -m neuroseg.workers.remote WORKSPACE TOKEN HOST:PORT,...`.

Started by a cluster; shows the head the run's secret, which lies in the workspace, and serves it.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from pathlib import Path

from neuroseg.errors import NeurosegError
from neuroseg.execution.channel import connected
from neuroseg.execution.cluster.slurm_commands import leave_together
from neuroseg.execution.door import secret_path
from neuroseg.execution.parent import die_with_parent
from neuroseg.runs.worker import set_up, work

logger = logging.getLogger(__name__)


def main(workspace: str, token: str, head: str) -> None:
    """Serve the head; ends quietly when the run has ended before."""
    set_up()
    if parent := os.environ.get("NEUROSEG_DIES_WITH"):
        die_with_parent(int(parent))
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    logger.info("worker of %s on %s", workspace, socket.gethostname())
    addresses = [(host, int(port)) for host, _, port in (one.rpartition(":") for one in head.split(","))]
    try:
        secret = secret_path(Path(workspace), token).read_bytes()
        channel = connected(addresses, secret)
    except FileNotFoundError:
        logger.info("the run has ended; nothing to do")
        leave_together()
        return
    except NeurosegError as error:
        logger.error("%s", error)
        sys.exit(1)

    def lost() -> None:
        """Have the other jobs cancelled too when it is the head that is gone, and not this worker that was let go."""
        try:
            connected(addresses, secret).close()
        except NeurosegError as error:
            logger.warning("leaving: %s", error)
            leave_together()

    work(Path(workspace), channel, alone=True, lost=lost)
    logger.info("the run is over")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The main of a worker on another machine: `python -m neuroseg.workers.remote WORKSPACE STAGE TOKEN HOST:PORT,...`.

Started by a cluster; shows the head the run's secret, which lies in the workspace, and drains one stage.
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
from neuroseg.execution.cluster.slurm_commands import leave_together
from neuroseg.execution.crew import secret_path
from neuroseg.execution.handover import die_with_parent
from neuroseg.execution.relay import connected, open_relay
from neuroseg.execution.scheduler import context_of
from neuroseg.run.worker import drain_stage, set_up

_LOOK_S = 2.0

logger = logging.getLogger(__name__)


def main(workspace: str, stage: str, token: str, head: str) -> None:
    """Drain the stage; ends quietly when the run has ended before."""
    set_up()
    if parent := os.environ.get("NEUROSEG_DIES_WITH"):
        die_with_parent(int(parent))
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    logger.info("worker of %s, stage %s, on %s", workspace, stage, socket.gethostname())
    path = secret_path(Path(workspace), token)
    addresses = [(host, int(port)) for host, _, port in (one.rpartition(":") for one in head.split(","))]
    try:
        secret = path.read_bytes()
        waiting = [connected(addresses, secret)]
    except FileNotFoundError:
        logger.info("the run has ended; nothing to do")
        leave_together()
        return
    except NeurosegError as error:
        logger.error("%s", error)
        sys.exit(1)

    def connect() -> socket.socket:
        return waiting.pop() if waiting else connected(addresses, secret)

    def lost() -> None:
        """Leave at once when the head is gone: nobody waits for the block in hand, or shall find it written later."""
        try:
            connected(addresses, secret).close()
        except NeurosegError as error:
            logger.warning("leaving: %s", error)
            leave_together()
            os._exit(0)

    threading.Thread(target=_watch, args=(path,), name="watch", daemon=True).start()
    os.environ |= context_of(stage, open_relay(connect, lost))
    drain_stage(Path(workspace), stage, alone=True)
    logger.info("no block is left")


def _watch(secret: Path) -> None:
    """End this process soon after its secret is gone: the stage is over, or another run has begun in the workspace."""
    while secret.exists():
        time.sleep(_LOOK_S)
    logger.info("the stage is over")
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])

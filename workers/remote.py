"""The main of a worker on another machine: `python -m neuroseg.workers.remote WORKSPACE STAGE HOST:PORT[,HOST:PORT]`.

Started by a cluster; shows the head the run's secret, which lies in the workspace, and drains one stage.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

from neuroseg.workers.local import drain_stage, set_up

from neuroseg.errors import NeurosegError
from neuroseg.execution.handover import die_with_parent
from neuroseg.execution.relay import connected, open_relay
from neuroseg.execution.remote import SECRET
from neuroseg.execution.scheduler import context_of
from neuroseg.execution.slurm import leave_together

_GRACE_S = 5.0

logger = logging.getLogger(__name__)


def main(workspace: str, stage: str, head: str) -> None:
    """Drain the stage; ends quietly when the run has ended before."""
    set_up()
    if os.environ.get("NEUROSEG_DIES_WITH_PARENT"):
        die_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    logger.info("worker of %s, stage %s, on %s", workspace, stage, socket.gethostname())
    addresses = [(host, int(port)) for host, _, port in (one.rpartition(":") for one in head.split(","))]
    try:
        secret = (Path(workspace) / SECRET).read_bytes()
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

    os.environ |= context_of(stage, open_relay(connect, _head_is_gone))
    drain_stage(workspace, stage)
    logger.info("no block is left")


def _head_is_gone() -> None:
    """End this process, unless it ends by itself: nobody waits for its block."""
    threading.Thread(target=_leave, name="leaving", daemon=True).start()


@functools.cache
def _leave() -> None:
    time.sleep(_GRACE_S)
    logger.warning("the head closed the connection; leaving")
    leave_together()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])

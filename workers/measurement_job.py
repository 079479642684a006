"""The main program of a job of `neuroseg plan`: `python -m neuroseg.workers.measurement_job FOLDER TOKEN HEAD KIND`.

It connects to the head, measures the block that the head names, and writes the measurements in the folder that the head
names. See runs/probe_jobs.py.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from pathlib import Path

from neuroseg.errors import NeurosegError
from neuroseg.execution.channel import Channel
from neuroseg.execution.cluster.program import Head, end_with_job
from neuroseg.runs.probe_processes import measure_and_write
from neuroseg.runs.worker import set_up

logger = logging.getLogger(__name__)


def main(folder: str, token: str, head: str, kind: str) -> None:
    """Measure one block on this machine. End with the head."""
    set_up()
    end_with_job()
    try:
        _measure(Head(folder, token, head), kind)
    except FileNotFoundError as error:
        logger.info("the plan has ended, or this machine does not see its folder: %s", error)
        sys.exit(1)
    except NeurosegError as error:
        logger.error("%s", error)
        sys.exit(1)


def _measure(head: Head, kind: str) -> None:
    channel = head.connect()
    channel.send({"kind": kind})
    task = channel.receive()
    if task is None:
        logger.info("the head needs no other measurement")
        return
    threading.Thread(target=_end_with_head, args=(channel, head), name="head", daemon=True).start()
    measure_and_write(Path(task["folder"]), int(task["block"]))
    channel.send({"measured": task["block"]})


def _end_with_head(channel: Channel, head: Head) -> None:
    """Exit this process when the head closes the connection. Cancel the other jobs if the head was killed."""
    channel.receive()
    if head.secret.exists():
        head.cancel_jobs_if_gone()
    os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])

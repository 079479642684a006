"""Inject faults into workers. Python imports this if the folder is on its path.

FAULT=WHAT:STAGE:BLOCK[:TIMES] kills (`company`: while the worker completes another block), hangs, raises, fails to
rename what the block wrote, or has a clock a day ahead or behind when that block is taken, TIMES times in all (default:
each).
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from pathlib import Path
from unittest import mock

_COUNT = Path(os.environ.get("FAULT_COUNT", "/dev/null"))


def _inject(what: str, stage: str, block: str, times: str = "1000") -> None:
    from neuroseg.execution import block as work

    process_block = work.process_block

    def faulty(process, taken, run_stage, *more, **named):  # type: ignore[no-untyped-def]
        if run_stage.name == stage and taken.index == int(block) and _next() <= int(times):
            if what == "company":
                time.sleep(0.2)
            if what in ("kill", "company"):
                os.kill(os.getpid(), signal.SIGKILL)
            if what == "hang":
                time.sleep(1000)
            if what == "raise":
                process = _raise
            with _surroundings(what):
                return process_block(process, taken, run_stage, *more, **named)
        if run_stage.name == stage and what == "company":
            process = _slowly_finished(process)
        return process_block(process, taken, run_stage, *more, **named)

    work.process_block = faulty


def _surroundings(what: str) -> contextlib.AbstractContextManager[object]:
    """Return the context of the block: a disk that cannot rename, or a wrong clock."""
    if what == "rename":
        refused = OSError(errno.EIO, "injected: cannot be renamed")
        return mock.patch("neuroseg.storage.publish.os.replace", side_effect=refused)
    ahead, clock = {"ahead": 86400, "behind": -86400}.get(what, 0), time.time
    return mock.patch("time.time", side_effect=lambda: clock() + ahead)


def _next() -> int:
    """Return how often this was called, in all processes."""
    with _COUNT.open("a") as file:
        file.write(".")
    return len(_COUNT.read_text())


def _slowly_finished(process):  # type: ignore[no-untyped-def]
    """Return a process function whose blocks take long to complete. The next block kills the worker meanwhile."""

    def processed(block):  # type: ignore[no-untyped-def]
        finish = process(block)

        def finished() -> None:
            time.sleep(0.6)
            if finish is not None:
                finish()

        return finished

    return processed


def _raise(block: object) -> None:
    raise ValueError("injected")


if fault := os.environ.get("FAULT"):
    _inject(*fault.split(":"))

"""What goes wrong in a worker: Python imports this at its start where the folder is on the path.

FAULT=WHAT:STAGE:BLOCK[:TIMES] kills, hangs, or raises when that block is taken, TIMES times in all (default: each).
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

_COUNT = Path(os.environ.get("FAULT_COUNT", "/dev/null"))


def _inject(what: str, stage: str, block: str, times: str = "1000") -> None:
    from neuroseg.execution import work

    process_block = work.process_block

    def faulty(process, taken, ledger, run_stage, **more):  # type: ignore[no-untyped-def]
        if run_stage.name == stage and taken.index == int(block) and _next() <= int(times):
            if what == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if what == "hang":
                time.sleep(1000)
            process = _raise
        return process_block(process, taken, ledger, run_stage, **more)

    work.process_block = faulty


def _next() -> int:
    """Count how often this was called, by whatever process."""
    with _COUNT.open("a") as file:
        file.write(".")
    return len(_COUNT.read_text())


def _raise(block: object) -> None:
    raise ValueError("injected")


if fault := os.environ.get("FAULT"):
    _inject(*fault.split(":"))

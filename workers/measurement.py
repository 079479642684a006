"""The main program of a probe of `neuroseg plan`: `python -m neuroseg.workers.measurement FOLDER BLOCK HEAD`.

It measures one block of the plan in FOLDER. HEAD is the process id of the command.
"""

from __future__ import annotations

import sys
from pathlib import Path

from neuroseg.execution.parent import die_with_parent


def main(folder: str, block: str, head: str) -> None:
    """Measure one block. Start like a worker, so that the start takes equally long."""
    die_with_parent(int(head))
    from neuroseg.runs.probe_processes import measure_and_write
    from neuroseg.runs.worker import set_up

    set_up()
    measure_and_write(Path(folder), int(block))


if __name__ == "__main__":
    main(*sys.argv[1:])

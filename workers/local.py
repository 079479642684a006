"""The main of a worker process: `python -m neuroseg.workers.local WORKSPACE STAGE`.

Started by the executor `local`; finds its scheduler through the environment variable that daisy sets.
"""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path

from neuroseg.execution.local import drain
from neuroseg.plan import read_plan
from neuroseg.storage.arrays import use_threads
from neuroseg.storage.workspace import Workspace


def main(workspace_path: str, stage_name: str) -> None:
    """Rebuild the stage from the workspace's run.yaml and drain its blocks."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # Blocks are atomic: a worker that is interrupted dies at once, whatever its threads are doing.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    use_threads(1)
    workspace = Workspace(Path(workspace_path))
    plan = read_plan(workspace)
    stage = plan.stage(workspace, stage_name)
    drain(stage, workspace.ledger(stage.name, stage.identity, stage.scope))


if __name__ == "__main__":
    main(*sys.argv[1:3])

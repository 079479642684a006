"""What a worker process does: stages of a workspace, or single blocks, as its plan says."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import socket
import sys
from pathlib import Path

from neuroseg.execution.block import forget_peak_memory, process_block
from neuroseg.execution.scheduler import drain
from neuroseg.execution.standing import Work, serve
from neuroseg.run.plan import read_plan
from neuroseg.storage.arrays import use_threads
from neuroseg.storage.workspace import Workspace


def set_up() -> None:
    """Have messages written with their time, one thread used, and interrupts obeyed."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", force=True)
    # Blocks are atomic: a worker that is interrupted dies at once, whatever its threads are doing.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    use_threads(1)
    _load_compiler()


def _load_compiler() -> None:
    """Have numba load what it needs before it is first used, but not scipy's linear algebra, which no kernel uses.

    numba loads that to find out whether it could: a quarter of a second, in every worker.
    """
    unwanted = "scipy.linalg.cython_blas"
    if unwanted in sys.modules:
        return
    sys.modules[unwanted] = None  # type: ignore[assignment]
    try:
        importlib.import_module("numba.np.arraymath")
    finally:
        del sys.modules[unwanted]


def stand(control: socket.socket) -> None:
    """Be a standing worker, hired through `control`; before that it costs nothing."""
    serve(control, set_up, do)


def do(workspace_path: Path, work: Work) -> bool:
    """Do what a visitor of a standing worker wants; returns whether it is done, and need not be tried otherwise."""
    if "block" in work:
        return do_block(workspace_path, work["stage"], work["block"])
    os.environ["DAISY_CONTEXT"] = work["context"]
    drain_stage(workspace_path, work["stage"])
    return True


def do_block(workspace_path: Path, stage_name: str, index: int) -> bool:
    """Process one block; returns whether it is done."""
    forget_peak_memory()
    workspace = Workspace(workspace_path)
    stage = read_plan(workspace).stage(workspace, stage_name)
    try:
        with stage.open() as process:
            ledger = workspace.ledger(stage.name, stage.identity, stage.scope)
            return process_block(process, stage.lattice.block(index, stage.halo), ledger, stage)
    except Exception:
        logging.exception("stage %s, block %d is left to another worker", stage_name, index)
        return False


def drain_stage(workspace_path: Path, stage_name: str, *, alone: bool = False) -> None:
    """Rebuild the stage from the workspace's run.yaml and drain its blocks; `alone` as in scheduler.drain."""
    forget_peak_memory()
    workspace = Workspace(workspace_path)
    stage = read_plan(workspace).stage(workspace, stage_name)
    drain(stage, workspace.ledger(stage.name, stage.identity, stage.scope), alone=alone)

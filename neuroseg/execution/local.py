"""The executor `local`: worker processes on this machine, fed by a scheduler (execution/scheduler.py).

head                                   worker (one process each)
starts them through daisy        ->    python -m neuroseg.workers.local WORKSPACE STAGE, or a standing worker
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from neuroseg.blocks import Block
from neuroseg.execution.block import BLOCK_TIMEOUT_S, Observe
from neuroseg.execution.handover import become_worker, visit_or_become_worker
from neuroseg.execution.safe_path import nothing_imported_from_here
from neuroseg.execution.scheduler import hand_out
from neuroseg.execution.standing import StandingWorkers
from neuroseg.stage import Stage
from neuroseg.storage.ledger import StageLedger


@dataclass(frozen=True)
class LocalExecutor:
    """Runs `workers` processes on this machine.

    With `standing`, their work is done by standing workers as long as there are any. Each worker sees one of `gpus`,
    where there are any, in turn.
    """

    workspace: Path
    workers: int
    logs: Path
    standing: StandingWorkers | None = None
    block_timeout_s: float = BLOCK_TIMEOUT_S
    gpus: Sequence[str] = ()

    def run(self, stage: Stage, blocks: Sequence[Block], ledger: StageLedger, observe: Observe) -> int:
        """Run the blocks; see execution.work.Executor."""
        count = min(self.workers, len(blocks))
        if len(blocks) == 1 and self.standing is not None:
            observe(0, 0)
            if self.standing.did(stage.name, blocks[0].index, self.block_timeout_s):
                observe(1, 0)
                return 1
        with nothing_imported_from_here():
            return hand_out(
                stage.name,
                blocks,
                ledger,
                worker=self._worker(stage.name, count),
                workers=count,
                logs=self.logs,
                timeout_s=self.block_timeout_s,
                observe=observe,
            )

    def _worker(self, stage: str, count: int) -> Callable[[], None]:
        """Return what a process that daisy starts calls."""
        command = [sys.executable, "-P", "-m", "neuroseg.workers.local", str(self.workspace.resolve()), stage]
        if self.standing is None:
            return partial(become_worker, command, os.getpid(), self.gpus, self.logs)
        return partial(visit_or_become_worker, self.standing.ready(count), stage, command, os.getpid())

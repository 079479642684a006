"""The executor `serial`: one block after the other in this process. The reference for all others."""

from __future__ import annotations

from collections.abc import Sequence

from neuroseg.blocks import Block
from neuroseg.execution.block import Observe, process_block
from neuroseg.stage import Stage
from neuroseg.storage.ledger import StageLedger


class SerialExecutor:
    """Opens the stage once and processes its blocks in order."""

    def run(self, stage: Stage, blocks: Sequence[Block], ledger: StageLedger, observe: Observe) -> int:
        """Run the blocks; see execution.block.Executor."""
        done = failed = 0
        observe(done, failed)
        with stage.open() as process:
            for block in blocks:
                if process_block(process, block, ledger, stage):
                    done += 1
                else:
                    failed += 1
                observe(done, failed)
        return done

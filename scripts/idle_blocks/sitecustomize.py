"""Has workers mark blocks as done without doing them: imported at the start where the folder is on Python's path."""

from __future__ import annotations

import os

if os.environ.get("IDLE_BLOCKS"):
    from neuroseg.execution import block as work

    def _idle(process, block, ledger, stage, begun=lambda: None):  # type: ignore[no-untyped-def]
        work.complete_block(lambda block: None, block, ledger, stage, begun)
        return True

    work.process_block = _idle

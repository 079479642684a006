"""Which block comes next, and how often it may be tried: daisy's scheduler, within the head. The one file that imports
daisy.

It knows only numbers, 0 to n-1 of the pending blocks. Every block is deterministic and atomic, because one may be done
twice: a worker that was given up may still write.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from neuroseg.blocks import Block

_RETRIES = 2
_HOPELESS = 100
_NEVER_S = 1e9  # how long a block may take is ours to say (workers.py)


class Schedule:
    """The blocks of a stage that are to be done, in their order; one that fails comes again, twice.

    For one thread; that which made it leaves its context.
    """

    def __init__(self, stage: str, blocks: Sequence[Block]) -> None:
        import daisy.v2 as daisy

        self._stage, self._blocks = stage, blocks
        self._success, self._failure = daisy.BlockStatus.SUCCESS, daisy.BlockStatus.FAILED
        self._held: dict[int, Any] = {}
        self._failed_once: set[int] = set()
        self._scheduler: Any = daisy.Scheduler(
            daisy.Task(
                stage,
                total_roi=daisy.Roi((0,), (len(blocks),)),
                read_roi=daisy.Roi((0,), (1,)),
                write_roi=daisy.Roi((0,), (1,)),
                process_function=None,
                read_write_conflict=False,
                max_retries=_RETRIES,
                timeout=_NEVER_S,
            )
        )

    def __enter__(self) -> Schedule:
        return self

    def __exit__(self, *_: object) -> None:
        # What is compiled must not be let go by another thread, as a traceback that lives on would have it.
        self._held.clear()
        self._scheduler = None

    def next(self) -> Block | None:
        """Return the next block, None when all others are done, given up or in hand.

        Where very many failed and none is done, it is not chance: what failed is not tried again.
        """
        while (unit := self._scheduler.acquire_block(self._stage)) is not None:
            block: Block = self._blocks[unit.write_roi.begin[0]]
            if block.index not in self._failed_once or self.done or len(self._failed_once) < _HOPELESS:
                self._held[block.index] = unit
                return block
            self._release(unit, done=False)
        return None

    def take_back(self, index: int, *, done: bool) -> None:
        """Note that a block that was handed out is done, or failed this time."""
        if not done:
            self._failed_once.add(index)
        self._release(self._held.pop(index), done=done)

    def _release(self, unit: Any, *, done: bool) -> None:
        unit.status = self._success if done else self._failure
        self._scheduler.release_block(unit)

    @property
    def done(self) -> int:
        """How many blocks are done."""
        return int(self._state.completed_count)

    @property
    def failed(self) -> int:
        """How many blocks are given up."""
        return int(self._state.failed_count)

    @property
    def is_over(self) -> bool:
        """Whether every block is done or given up."""
        return bool(self._state.is_done())

    @property
    def _state(self) -> Any:
        return self._scheduler.task_states[self._stage]

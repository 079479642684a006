"""The workers of a run, as the head sees them: it gives them blocks, and notices those that die or hang.

    head                                        worker (a process of its own, here or on another machine)
    schedule: which block is next   <- channel ->  serving.py: sets stages up, processes blocks

A worker serves one stage after the other. Where workers come from differs by executor (a `Launcher`); the rest is here.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from neuroseg.blocks import Block
from neuroseg.errors import DiskFullError
from neuroseg.execution.block import BLOCK_TIMEOUT_S, Observe
from neuroseg.execution.channel import Channel
from neuroseg.execution.scheduler import Schedule
from neuroseg.stage import Stage
from neuroseg.storage.ledger import StageLedger

# How often workers are counted and clocks looked at.
_LOOK_S = 0.25
# A worker completes one block while it computes the next.
_IN_HAND = 2
# A network may come from a slow disk.
_OPENING_S = 120.0

logger = logging.getLogger(__name__)


class Launcher(Protocol):
    """Where workers come from."""

    def keep(self, wanted: int, progress: int) -> None:
        """See to it that so many workers are there or on their way; returns at once. 0: those there may stay.

        `progress` counts what workers have done or failed so far: where it does not grow, those that end are replaced
        later and later, and not for ever. Raises NeurosegError when nobody will come any more.
        """
        ...

    def came(self) -> list[Channel]:
        """Return the channels of workers that came since the last call."""
        ...

    @property
    def bell(self) -> Any:
        """What can be waited at for a worker to come; None where `keep` alone brings them."""
        ...

    def end(self, channel: Channel, job: str | None) -> None:
        """End a worker that hangs, or the job of a cluster that it is; its channel is closed already."""
        ...

    def stop(self, *, at_once: bool) -> None:
        """End all workers, whether they wait or work; unless `at_once`, those that were told to leave may."""
        ...


@dataclass(eq=False)
class _Worker:
    """A worker, and the blocks in its hand, by when they were given.

    While it sets a stage up, `opening` says since when.
    """

    channel: Channel
    job: str | None = None
    opening: float | None = None
    is_ready: bool = False
    in_hand: dict[int, float] = field(default_factory=dict)
    begun: set[int] = field(default_factory=set)

    def open(self, stage: str) -> None:
        self.opening, self.is_ready = time.monotonic(), False
        self.channel.send({"open": stage})

    def is_late(self, timeout_s: float) -> bool:
        """Whether it has had a block, or has been setting a stage up, for too long."""
        now = time.monotonic()
        is_stuck = self.opening is not None and now > self.opening + max(timeout_s, _OPENING_S)
        return is_stuck or any(now > given + timeout_s for given in self.in_hand.values())

    @property
    def is_free(self) -> bool:
        return self.is_ready and len(self.in_hand) < _IN_HAND and self.begun == self.in_hand.keys()


class Workers:
    """Workers of one kind, `most` of which work at a time.

    The first block starts them. Leaving the context ends them.
    """

    def __init__(self, launcher: Launcher, most: int, block_timeout_s: float = BLOCK_TIMEOUT_S) -> None:
        self._launcher, self.most, self._timeout_s = launcher, most, block_timeout_s
        self._workers: list[_Worker] = []
        self._progress = 0
        self._next_look = 0.0
        self._apart: set[int] = set()
        self._waiting: list[Block] = []
        self._selector = selectors.DefaultSelector()
        if launcher.bell is not None:
            self._selector.register(launcher.bell, selectors.EVENT_READ)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(at_once=False)
        self._selector.close()

    @property
    def are_there(self) -> bool:
        """Whether any worker has come and not gone."""
        return bool(self._workers)

    def run(self, stage: Stage, blocks: Sequence[Block], ledger: StageLedger, observe: Observe) -> int:
        """Run the blocks; see execution.block.Executor. Raises NeurosegError when no worker can be had."""
        self._next_look, self._apart, self._waiting = 0.0, set(), []
        for worker in self._workers:
            worker.open(stage.name)
        with Schedule(stage.name, blocks) as schedule:
            try:
                while not schedule.is_over:
                    if time.monotonic() >= self._next_look:
                        observe(schedule.done, schedule.failed)
                        self._look(schedule, len(blocks))
                    self._welcome(stage.name)
                    for key, _ in self._selector.select(_LOOK_S):
                        if key.data is not None:
                            self._hear(key.data, stage.name, schedule)
                    self._give(stage.name, schedule)
            except BaseException:
                self.stop(at_once=True)  # what they were writing is about to be removed
                raise
            for worker in self._workers:
                worker.channel.send({"close": stage.name})
                worker.is_ready = False
            self._launcher.keep(0, self._progress)
            observe(schedule.done, schedule.failed)
            return schedule.done

    def stop(self, *, at_once: bool) -> None:
        """End all workers, `at_once` whatever they are doing."""
        try:
            while self._workers:
                channel = self._workers.pop().channel
                with contextlib.suppress(KeyError, OSError, ValueError):  # an interrupt may fall anywhere
                    self._selector.unregister(channel)
                if not at_once:
                    channel.send({"end": True})
                channel.close()
        finally:
            self._launcher.stop(at_once=at_once)

    def _look(self, schedule: Schedule, blocks: int) -> None:
        """Replace workers that ended, and end those that have had a block for too long."""
        self._next_look = time.monotonic() + _LOOK_S
        for worker in [each for each in self._workers if each.is_late(self._timeout_s)]:
            logger.warning("a worker took too long (more than %g s): it is ended", self._timeout_s)
            self._lose(worker, schedule)
            self._launcher.end(worker.channel, worker.job)
        left = blocks - schedule.done - schedule.failed
        self._launcher.keep(min(self.most, left), self._progress)

    def _welcome(self, stage: str) -> None:
        """Have workers that came set the stage up."""
        for channel in self._launcher.came():
            self._workers.append(worker := _Worker(channel))
            self._selector.register(channel, selectors.EVENT_READ, worker)
            worker.open(stage)

    def _hear(self, worker: _Worker, stage: str, schedule: Schedule) -> None:
        match worker.channel.receive():
            case {"job": job}:
                worker.job = job
            case {"opened": opened}:
                if opened == stage:
                    worker.opening, worker.is_ready = None, True
            case {"begun": index} if index in worker.in_hand:
                worker.begun.add(index)
            case {"done": index} if index in worker.in_hand:
                self._take_back(worker, index, schedule, done=True)
            case {"failed": index} if index in worker.in_hand:
                self._take_back(worker, index, schedule, done=False)
            case {"full": str(why)}:
                raise DiskFullError(why)
            case _:
                self._lose(worker, schedule)

    def _take_back(self, worker: _Worker, index: int, schedule: Schedule, *, done: bool) -> None:
        del worker.in_hand[index]
        worker.begun.discard(index)
        self._progress += 1
        schedule.take_back(index, done=done)

    def _lose(self, worker: _Worker, schedule: Schedule) -> None:
        """Let go of a worker that is gone, or shall be: its blocks have failed this time.

        Where it had two, either may be the cause: from now on each is tried apart from others.
        """
        self._selector.unregister(worker.channel)
        self._workers.remove(worker)
        worker.channel.close()
        if len(worker.in_hand) > 1:
            self._apart |= worker.in_hand.keys()
        for index in list(worker.in_hand):
            self._take_back(worker, index, schedule, done=False)
        self._next_look = 0.0

    def _give(self, stage: str, schedule: Schedule) -> None:
        """Give a block to each worker that may begin one, those with an empty hand first."""
        for worker in sorted(self._workers[: self.most], key=lambda each: len(each.in_hand)):
            if not worker.is_free or not self._apart.isdisjoint(worker.in_hand):
                continue
            block = self._next(schedule, is_empty=not worker.in_hand)
            if block is not None:
                worker.in_hand[block.index] = time.monotonic()
                worker.channel.send({"stage": stage, "block": block.index})

    def _next(self, schedule: Schedule, *, is_empty: bool) -> Block | None:
        """Return the next block for a worker; those that are tried apart wait for one whose hand `is_empty`."""
        if is_empty and self._waiting:
            return self._waiting.pop()
        while (block := schedule.next()) is not None:
            if is_empty or block.index not in self._apart:
                return block
            self._waiting.append(block)
        return None

"""Hands blocks out to workers, and notices those that die or hang.

    head                                        worker (a process of its own, here or on another machine)
    schedule: which block is next   <- channel ->  serving.py: sets stages up, processes blocks

Workers are alike within a pool (pool.py), and serve the stages of their kind. Where workers come from differs by
executor (a `Launcher`); the rest is here.
"""

from __future__ import annotations

import logging
import selectors
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from neuroseg.errors import DiskFullError
from neuroseg.execution.block import BLOCK_TIMEOUT_S
from neuroseg.execution.pool import Pool, Worker
from neuroseg.execution.scheduler import Key, Schedule, Unit
from neuroseg.execution.task import Task

# How often workers are counted and clocks looked at.
_LOOK_S = 0.25

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Share:
    """The pool that does a stage, with at most `most` workers. With `last`, no later stage needs the pool."""

    pool: Pool
    most: int
    last: bool = False


class WorkersExecutor:
    """Runs tasks once, each by the share of workers that its stage has; pools outlive it."""

    def __init__(self, shares: Mapping[str, Share], block_timeout_s: float = BLOCK_TIMEOUT_S) -> None:
        self._shares, self._timeout_s = shares, block_timeout_s
        self._pools = list({id(share.pool): share.pool for share in shares.values()}.values())
        self._selector = selectors.DefaultSelector()
        self._next_look = 0.0
        self._apart: set[Key] = set()
        self._waiting: dict[str, list[Unit]] = defaultdict(list)
        self._at_work: dict[str, set[Worker]] = defaultdict(set)

    def run(self, tasks: Sequence[Task]) -> list[int]:
        """Run the tasks; see execution.task.Executor. Raises NeurosegError when no worker can be had."""
        with Schedule(tasks) as schedule, self._listening():
            try:
                while not schedule.is_over:
                    if time.monotonic() >= self._next_look:
                        self._look(tasks, schedule)
                    self._welcome()
                    for key, _ in self._selector.select(_LOOK_S):
                        if key.data is not None:
                            pool, worker = key.data
                            self._hear(pool, worker, schedule)
                    self._give(tasks, schedule)
            except BaseException:
                for pool in self._pools:
                    pool.stop(at_once=True)  # what they were writing is about to be removed
                raise
            self._close(tasks)
            self._observe(tasks, schedule)
            return [schedule.done(task.name) for task in tasks]

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Listen to the workers that are there, and have them set the stages up."""
        with self._selector:
            for pool in self._pools:
                for worker in pool.workers:
                    self._begin(pool, worker)
            yield

    def _begin(self, pool: Pool, worker: Worker) -> None:
        self._selector.register(worker.channel, selectors.EVENT_READ, (pool, worker))
        worker.open([name for name, share in self._shares.items() if share.pool is pool])

    def _close(self, tasks: Sequence[Task]) -> None:
        """Have workers forget the stages: their arrays may be made anew."""
        for task in tasks:
            for worker in self._shares[task.name].pool.workers:
                worker.channel.send({"close": task.name})
                worker.opened.discard(task.name)
        for pool in self._pools:
            pool.keep(0)

    def _observe(self, tasks: Sequence[Task], schedule: Schedule) -> None:
        for task in tasks:
            task.observe(schedule.done(task.name), schedule.failed(task.name))

    def _look(self, tasks: Sequence[Task], schedule: Schedule) -> None:
        """Replace workers that ended, end those that have had a block for too long, and those nobody needs any more."""
        self._next_look = time.monotonic() + _LOOK_S
        self._observe(tasks, schedule)
        for pool in self._pools:
            for worker in [each for each in pool.workers if each.is_late(self._timeout_s)]:
                logger.warning("a worker took too long (more than %g s): it is ended", self._timeout_s)
                self._lose(pool, worker, schedule, end=True)
            stages = [name for name, share in self._shares.items() if share.pool is pool]
            left = sum(map(schedule.left, stages))
            if left == 0 and all(self._shares[name].last for name in stages):
                self._let_go(pool)
                continue
            is_wanted = any(schedule.is_ready(name) or self._at_work[name] or self._waiting[name] for name in stages)
            pool.keep(min(pool.most, left) if is_wanted else 0)
            self._hear_bell(pool)

    def _let_go(self, pool: Pool) -> None:
        for heard in [pool.bell, *(worker.channel for worker in pool.workers)]:
            with suppress(KeyError, ValueError):
                self._selector.unregister(heard)
        pool.leave()

    def _hear_bell(self, pool: Pool) -> None:
        if pool.bell is not None and pool.bell not in self._selector.get_map():
            self._selector.register(pool.bell, selectors.EVENT_READ)

    def _welcome(self) -> None:
        """Have workers that came set the stages up."""
        for pool in self._pools:
            for worker in pool.came():
                self._begin(pool, worker)

    def _hear(self, pool: Pool, worker: Worker, schedule: Schedule) -> None:
        match worker.channel.receive():
            case {"job": job}:
                worker.job = job
            case {"opened": str(stage)} if stage in self._shares:
                worker.opened.add(stage)
                is_next = any(share.pool is pool and name not in worker.opened for name, share in self._shares.items())
                worker.opening = time.monotonic() if is_next else None
            case {"begun": [str(stage), int(index)]} if Key(stage, index) in worker.in_hand:
                worker.begun.add(Key(stage, index))
            case {"done": [str(stage), int(index)]} if Key(stage, index) in worker.in_hand:
                self._take_back(pool, worker, Key(stage, index), schedule, done=True)
            case {"failed": [str(stage), int(index)]} if Key(stage, index) in worker.in_hand:
                self._take_back(pool, worker, Key(stage, index), schedule, done=False)
            case {"early": [str(stage), int(index)], "needs": [str(artifact), int(part)]} if (
                Key(stage, index) in worker.in_hand
            ):
                self._out_of_hand(worker, Key(stage, index))
                schedule.put_off(Key(stage, index), artifact, part)
            case {"full": str(why)}:
                raise DiskFullError(why)
            case {"opened": str()}:
                pass  # of a run before this one
            case _:
                self._lose(pool, worker, schedule, end=False)

    def _take_back(self, pool: Pool, worker: Worker, key: Key, schedule: Schedule, *, done: bool) -> None:
        self._out_of_hand(worker, key)
        pool.progress += 1
        schedule.take_back(key, done=done)

    def _out_of_hand(self, worker: Worker, key: Key) -> None:
        del worker.in_hand[key]
        worker.begun.discard(key)
        if not any(other.stage == key.stage for other in worker.in_hand):
            self._at_work[key.stage].discard(worker)

    def _lose(self, pool: Pool, worker: Worker, schedule: Schedule, *, end: bool) -> None:
        """Let go of a worker that is gone, or shall be: its blocks have failed this time.

        Where it had two, either may be the cause: from now on each is tried apart from others.
        """
        with suppress(KeyError):
            self._selector.unregister(worker.channel)
        if len(worker.in_hand) > 1:
            self._apart |= worker.in_hand.keys()
        for key in list(worker.in_hand):
            self._take_back(pool, worker, key, schedule, done=False)
        pool.lose(worker, end=end)
        self._next_look = 0.0

    def _give(self, tasks: Sequence[Task], schedule: Schedule) -> None:
        """Give a block to each worker that may begin one, those with an empty hand first."""
        later_first = [task for task in tasks[::-1] if schedule.is_ready(task.name) or self._waiting[task.name]]
        for pool in self._pools:
            served = [task for task in later_first if self._shares[task.name].pool is pool]
            for worker in sorted(pool.workers[: pool.most], key=lambda each: len(each.in_hand)) if served else ():
                if not worker.is_free or not self._apart.isdisjoint(worker.in_hand):
                    continue
                if (unit := self._next(served, worker, tasks, schedule)) is not None:
                    worker.in_hand[unit.key] = time.monotonic()
                    self._at_work[unit.key.stage].add(worker)
                    message = {"stage": unit.key.stage, "block": unit.key.number, "early": unit.early}
                    worker.channel.send(message)

    def _next(self, served: Sequence[Task], worker: Worker, tasks: Sequence[Task], schedule: Schedule) -> Unit | None:
        """Return the next block for a worker; those that are tried apart wait for one whose hand is empty."""
        is_empty = not worker.in_hand
        for task in served:
            busy = self._at_work[task.name]
            if task.name not in worker.opened or (len(busy) >= self._shares[task.name].most and worker not in busy):
                continue
            if task.must_wait() and self._others_go_on(task, tasks, schedule):
                continue
            if is_empty and self._waiting[task.name]:
                return self._waiting[task.name].pop()
            while (unit := schedule.next(task.name)) is not None:
                if is_empty or unit.key not in self._apart:
                    return unit
                self._waiting[task.name].append(unit)
        return None

    def _others_go_on(self, task: Task, tasks: Sequence[Task], schedule: Schedule) -> bool:
        """Return whether blocks of later tasks are at work, or can be."""
        later = tasks[tasks.index(task) + 1 :]
        return any(self._at_work[each.name] or schedule.is_ready(each.name) for each in later)

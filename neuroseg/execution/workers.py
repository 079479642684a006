"""Assign blocks to workers, and replace workers that die or hang.

    head                                        worker (another process, on this machine or another one)
    schedule: chooses the next block   <- channel ->   serving.py: sets up stages, processes blocks

The workers of a pool (pool.py) are identical and serve several stages. A `Launcher` starts them, differently for each
executor. Everything else is the same for all executors and is in this file.
"""

from __future__ import annotations

import logging
import selectors
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from neuroseg.execution.block import BLOCK_TIMEOUT_S, Outcome
from neuroseg.execution.pool import Pool, Worker
from neuroseg.execution.scheduler import Key, Schedule, Unit
from neuroseg.execution.task import Task

# Interval at which workers are counted and time limits are checked.
_CHECK_EVERY_S = 0.25

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Allocation:
    """The pool of a stage, and the maximum number of its workers. With `last`, no later stage needs the pool."""

    pool: Pool
    max_workers: int
    last: bool = False


class WorkersExecutor:
    """Runs tasks once, each with the workers allocated to its stage. The pools outlive it."""

    def __init__(self, allocations: Mapping[str, Allocation], block_timeout_s: float = BLOCK_TIMEOUT_S) -> None:
        self._allocations, self._timeout_s = allocations, block_timeout_s
        self._pools = list({id(allocation.pool): allocation.pool for allocation in allocations.values()}.values())
        self._selector = selectors.DefaultSelector()
        self._next_check = 0.0
        self._isolated: set[Key] = set()
        self._waiting: dict[str, list[Unit]] = defaultdict(list)
        self._busy: dict[str, set[Worker]] = defaultdict(set)

    def run(self, tasks: Sequence[Task]) -> list[int]:
        """Run the tasks; see execution.task.Executor. Raises NeurosegError if no worker can be started."""
        with Schedule(tasks) as schedule, self._registered():
            try:
                while not schedule.is_over:
                    if time.monotonic() >= self._next_check:
                        self._check_workers(tasks, schedule)
                    self._register_new_workers()
                    for key, _ in self._selector.select(_CHECK_EVERY_S):
                        if key.data is not None:
                            pool, worker = key.data
                            self._receive(pool, worker, schedule)
                    self._assign(tasks, schedule)
            except BaseException:
                for pool in self._pools:
                    pool.stop(force=True)  # the caller removes the files that they are writing
                raise
            self._close(tasks)
            self._observe(tasks, schedule)
            return [schedule.done(task.name) for task in tasks]

    @contextmanager
    def _registered(self) -> Iterator[None]:
        """Receive from the connected workers, and ask them to set up the stages."""
        with self._selector:
            for pool in self._pools:
                for worker in pool.workers:
                    self._register(pool, worker)
            yield

    def _register(self, pool: Pool, worker: Worker) -> None:
        self._selector.register(worker.channel, selectors.EVENT_READ, (pool, worker))
        worker.set_up(self._stages_of(pool))

    def _stages_of(self, pool: Pool) -> list[str]:
        """Return the stages that a pool serves."""
        return [name for name, allocation in self._allocations.items() if allocation.pool is pool]

    def _close(self, tasks: Sequence[Task]) -> None:
        """Ask the workers to close the stages, because a later run may replace their arrays."""
        for task in tasks:
            for worker in self._allocations[task.name].pool.workers:
                worker.channel.send({"close": task.name})
                worker.ready_stages.discard(task.name)
        for pool in self._pools:
            pool.scale(0)

    def _observe(self, tasks: Sequence[Task], schedule: Schedule) -> None:
        for task in tasks:
            task.observe(schedule.done(task.name), schedule.failed(task.name))

    def _check_workers(self, tasks: Sequence[Task], schedule: Schedule) -> None:
        """Replace workers that ended. End workers that exceed the time limit, and pools that are no longer needed."""
        self._next_check = time.monotonic() + _CHECK_EVERY_S
        self._observe(tasks, schedule)
        for pool in self._pools:
            for worker in [each for each in pool.workers if each.is_overdue(self._timeout_s)]:
                logger.warning("a worker exceeded the time limit of %g s and is killed", self._timeout_s)
                self._drop(pool, worker, schedule, kill=True)
            stages = self._stages_of(pool)
            left = sum(map(schedule.left, stages))
            if left == 0 and all(self._allocations[name].last for name in stages):
                self._stop_pool(pool)
                continue
            is_wanted = any(schedule.is_ready(name) or self._busy[name] or self._waiting[name] for name in stages)
            pool.scale(min(pool.max_workers, left) if is_wanted else 0)
            self._watch_for_connections(pool)

    def _stop_pool(self, pool: Pool) -> None:
        for source in [pool.readable, *(worker.channel for worker in pool.workers)]:
            with suppress(KeyError, ValueError):
                self._selector.unregister(source)
        pool.stop_in_background()

    def _watch_for_connections(self, pool: Pool) -> None:
        if pool.readable is not None and pool.readable not in self._selector.get_map():
            self._selector.register(pool.readable, selectors.EVENT_READ)

    def _register_new_workers(self) -> None:
        """Register new workers and ask them to set up the stages."""
        for pool in self._pools:
            for worker in pool.new_workers():
                self._register(pool, worker)

    def _receive(self, pool: Pool, worker: Worker, schedule: Schedule) -> None:
        match worker.channel.receive():
            case {"begun": [str(stage), int(index)]} if Key(stage, index) in worker.assigned:
                worker.begun.add(Key(stage, index))
            case {"ended": [str(stage), int(index)], "outcome": dict(outcome)} if (
                Key(stage, index) in worker.assigned and outcome.keys() <= Outcome.__dataclass_fields__.keys()
            ):
                self._take_back(pool, worker, Key(stage, index), schedule, Outcome(**outcome))
            case {"early": [str(stage), int(index)], "needs": [str(artifact), int(part)]} if (
                Key(stage, index) in worker.assigned
            ):
                self._unassign(worker, Key(stage, index))
                schedule.put_off(Key(stage, index), artifact, part)
            case {"job": job}:
                worker.job = job
            case {"opened": str(stage)} if stage in self._allocations:
                worker.ready_stages.add(stage)
                is_ready = worker.ready_stages.issuperset(self._stages_of(pool))
                worker.setting_up_since = None if is_ready else time.monotonic()
            case {"opened": str()}:
                pass  # a late message of an earlier run
            case _:
                self._drop(pool, worker, schedule, kill=False)

    def _take_back(self, pool: Pool, worker: Worker, key: Key, schedule: Schedule, outcome: Outcome | None) -> None:
        self._unassign(worker, key)
        pool.progress += 1
        schedule.take_back(key, outcome)

    def _unassign(self, worker: Worker, key: Key) -> None:
        del worker.assigned[key]
        worker.begun.discard(key)
        if not any(other.stage == key.stage for other in worker.assigned):
            self._busy[key.stage].discard(worker)

    def _drop(self, pool: Pool, worker: Worker, schedule: Schedule, *, kill: bool) -> None:
        """Remove a worker that died, or that must be killed. Its blocks count as failed attempts.

        If it had two blocks, either may be the cause. From now on, a worker processes each of them without a second
        block.
        """
        with suppress(KeyError):
            self._selector.unregister(worker.channel)
        if len(worker.assigned) > 1:
            self._isolated |= worker.assigned.keys()
        for key in list(worker.assigned):
            self._take_back(pool, worker, key, schedule, None)
        pool.remove(worker, kill=kill)
        self._next_check = 0.0

    def _assign(self, tasks: Sequence[Task], schedule: Schedule) -> None:
        """Assign a block to each worker that can begin one. Workers without a block come first."""
        later_first = [task for task in tasks[::-1] if schedule.is_ready(task.name) or self._waiting[task.name]]
        for pool in self._pools:
            served = [task for task in later_first if self._allocations[task.name].pool is pool]
            workers = pool.workers[: pool.max_workers] if served else []
            for worker in sorted(workers, key=lambda each: len(each.assigned)):
                if not worker.is_free or not self._isolated.isdisjoint(worker.assigned):
                    continue
                if (unit := self._next_block(served, worker, tasks, schedule)) is not None:
                    worker.assigned[unit.key] = time.monotonic()
                    self._busy[unit.key.stage].add(worker)
                    message = {"stage": unit.key.stage, "block": unit.key.number, "early": unit.early}
                    worker.channel.send(message)

    def _next_block(
        self, served: Sequence[Task], worker: Worker, tasks: Sequence[Task], schedule: Schedule
    ) -> Unit | None:
        """Return the next block for a worker, or None. Isolated blocks wait for a worker without a block."""
        is_empty = not worker.assigned
        for task in served:
            busy, max_workers = self._busy[task.name], self._allocations[task.name].max_workers
            if task.name not in worker.ready_stages or (len(busy) >= max_workers and worker not in busy):
                continue
            if task.must_wait() and self._others_can_run(task, tasks, schedule):
                continue
            if is_empty and self._waiting[task.name]:
                return self._waiting[task.name].pop()
            while (unit := schedule.next(task.name)) is not None:
                if is_empty or unit.key not in self._isolated:
                    return unit
                self._waiting[task.name].append(unit)
        return None

    def _others_can_run(self, task: Task, tasks: Sequence[Task], schedule: Schedule) -> bool:
        """Return whether later tasks can go on: their blocks run or can run, or a running block of this one allows it.

        If a worker is slow with a block that later tasks wait for, the next blocks would not help them.
        """
        later = tasks[tasks.index(task) + 1 :]
        return bool(self._busy[task.name]) or any(
            self._busy[each.name] or schedule.is_ready(each.name) for each in later
        )

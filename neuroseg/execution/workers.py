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
from collections.abc import Mapping, Sequence
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

    def run(self, tasks: Sequence[Task]) -> list[int]:
        """Run the tasks; see execution.task.Executor. Raises NeurosegError if no worker can be started."""
        with Schedule(tasks) as schedule, self._selector:
            try:
                for pool in self._pools:
                    self._register(pool, pool.workers)
                while not schedule.is_over:
                    if time.monotonic() >= self._next_check:
                        self._check_workers(tasks, schedule)
                    for pool in self._pools:
                        self._register(pool, pool.new_workers())
                    for key, _ in self._selector.select(_CHECK_EVERY_S):
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

    def _register(self, pool: Pool, workers: Sequence[Worker]) -> None:
        """Receive from connected workers, and ask them to set up the stages."""
        for worker in workers:
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
        busy = self._busy()
        for pool in self._pools:
            stages = self._stages_of(pool)
            left = sum(map(schedule.left, stages))
            if left == 0 and all(self._allocations[name].last for name in stages):
                for worker in pool.workers:
                    self._selector.unregister(worker.channel)
                pool.stop_in_background()
                continue
            is_wanted = any(schedule.is_ready(name) or busy[name] for name in stages)
            pool.scale(min(pool.max_workers, left) if is_wanted else 0)

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
                worker.unassign(Key(stage, index))
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
        worker.unassign(key)
        pool.progress += 1
        schedule.take_back(key, outcome)

    def _drop(self, pool: Pool, worker: Worker, schedule: Schedule, *, kill: bool) -> None:
        """Remove a worker that died, or that must be killed. Its blocks count as failed attempts."""
        self._selector.unregister(worker.channel)
        for key in list(worker.assigned):
            self._take_back(pool, worker, key, schedule, None)
        pool.remove(worker, kill=kill)
        self._next_check = 0.0

    def _busy(self) -> dict[str, set[Worker]]:
        """Return the workers that have a block, by its stage."""
        busy: dict[str, set[Worker]] = defaultdict(set)
        for pool in self._pools:
            for worker in pool.workers:
                for key in worker.assigned:
                    busy[key.stage].add(worker)
        return busy

    def _assign(self, tasks: Sequence[Task], schedule: Schedule) -> None:
        """Assign a block to each worker that can begin one. Workers without a block come first.

        A worker processes a block that failed before without a second block. If it dies with two blocks, either may be
        the cause.
        """
        later_first = [task for task in tasks[::-1] if schedule.is_ready(task.name)]
        busy = self._busy() if later_first else {}
        for pool in self._pools:
            served = [task for task in later_first if self._allocations[task.name].pool is pool]
            workers = pool.workers[: pool.max_workers] if served else []
            for worker in sorted(workers, key=lambda each: len(each.assigned)):
                if not worker.is_free or any(map(schedule.is_retried, worker.assigned)):
                    continue
                if (unit := self._next_block(served, worker, tasks, schedule, busy)) is not None:
                    worker.assigned[unit.key] = time.monotonic()
                    busy[unit.key.stage].add(worker)
                    message = {"stage": unit.key.stage, "block": unit.key.number, "early": unit.early}
                    worker.channel.send(message)

    def _next_block(
        self,
        served: Sequence[Task],
        worker: Worker,
        tasks: Sequence[Task],
        schedule: Schedule,
        busy: Mapping[str, set[Worker]],
    ) -> Unit | None:
        """Return the next block for a worker, or None. Blocks that failed before wait for a worker without a block."""
        for task in served:
            others, max_workers = busy[task.name], self._allocations[task.name].max_workers
            if task.name not in worker.ready_stages or (len(others) >= max_workers and worker not in others):
                continue
            # While later tasks can go on, or a running block of this one may let them, the next block must wait.
            later = tasks[tasks.index(task) + 1 :]
            if task.must_wait() and (others or any(busy[each.name] or schedule.is_ready(each.name) for each in later)):
                continue
            if (unit := schedule.next(task.name, retry=not worker.assigned)) is not None:
                return unit
        return None

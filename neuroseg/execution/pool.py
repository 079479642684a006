"""Pools of identical workers, as the head sees them: the connected workers, and the launcher that starts them."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from neuroseg.execution.channel import Channel
from neuroseg.execution.scheduler import Key

# A worker writes one block while it computes the next.
_BLOCKS_PER_WORKER = 2
# Time limit for setting up a stage: the network may load from a slow disk.
SETUP_TIMEOUT_S = 120.0
# How long the end of a run waits for pools that stop in the background.
_STOP_TIMEOUT_S = 15.0

logger = logging.getLogger(__name__)


class Launcher(Protocol):
    """Starts and ends the workers of a pool."""

    def scale(self, wanted: int, progress: int) -> None:
        """Keep `wanted` workers running or starting. Do not wait for them. With 0, running workers may stay.

        `progress` counts the blocks that the pool has finished or failed so far. While it does not grow, workers that
        end are replaced at longer and longer intervals. Raises NeurosegError if no further worker will start.
        """
        ...

    def new_channels(self) -> list[Channel]:
        """Return the channels of the workers that connected since the last call."""
        ...

    def kill(self, channel: Channel, job: str | None) -> None:
        """Kill a hanging worker, or cancel its `job`. Its channel is already closed."""
        ...

    def stop(self, *, force: bool) -> None:
        """End all workers. With `force`, do not wait for workers that are about to exit."""
        ...


@dataclass(eq=False)
class Worker:
    """A worker, the stages that it has set up, and its assigned blocks with the time of assignment (time.monotonic).

    `begun` contains the assigned blocks that the worker is completing (neuroseg.stage.Process). `setting_up_since` is
    None unless the worker is setting up stages.
    """

    channel: Channel
    job: str | None = None
    setting_up_since: float | None = None
    ready_stages: set[str] = field(default_factory=set)
    assigned: dict[Key, float] = field(default_factory=dict)
    begun: set[Key] = field(default_factory=set)

    def set_up(self, stages: list[str]) -> None:
        """Ask the worker to set up stages, one after the other."""
        self.setting_up_since = time.monotonic()
        for stage in stages:
            self.channel.send({"open": stage})

    def is_overdue(self, timeout_s: float) -> bool:
        """Return whether the worker has exceeded the time limit for a block or for setting up a stage."""
        now = time.monotonic()
        is_stuck = self.setting_up_since is not None and now > self.setting_up_since + max(timeout_s, SETUP_TIMEOUT_S)
        return is_stuck or any(now > given + timeout_s for given in self.assigned.values())

    def unassign(self, key: Key) -> None:
        """Take a block from the worker."""
        del self.assigned[key]
        self.begun.discard(key)

    @property
    def is_free(self) -> bool:
        """Whether the worker can begin another block."""
        return len(self.assigned) < _BLOCKS_PER_WORKER and self.begun == self.assigned.keys()


class Pool:
    """The workers of one launcher. At most `max_workers` of them work at a time.

    The launcher is created when workers are first wanted. The workers end with the context.
    """

    def __init__(self, launch: Callable[[], Launcher]) -> None:
        self._launch = launch
        self._launcher: Launcher | None = None
        self._stopping: list[threading.Thread] = []
        self.workers: list[Worker] = []
        self.max_workers = 0
        self.progress = 0

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(force=False)

    def scale(self, wanted: int) -> None:
        """Keep `wanted` workers running or starting. With 0, running workers may stay."""
        if self._launcher is None and wanted:
            self._launcher = self._launch()
        if self._launcher is not None:
            self._launcher.scale(wanted, self.progress)

    def new_workers(self) -> list[Worker]:
        """Return the workers that connected since the last call, and add them to the pool."""
        new = [Worker(channel) for channel in self._launcher.new_channels()] if self._launcher is not None else []
        self.workers += new
        return new

    def remove(self, worker: Worker, *, kill: bool) -> None:
        """Remove a worker and close its channel. With `kill`, also kill it."""
        self.workers.remove(worker)
        worker.channel.close()
        if kill and self._launcher is not None:
            self._launcher.kill(worker.channel, worker.job)

    def stop_in_background(self) -> None:
        """End all workers without waiting, because a cluster may need long to cancel jobs."""
        stopping = threading.Thread(target=self._stop_quietly, args=(self._disconnect(force=False),), daemon=True)
        stopping.start()
        self._stopping.append(stopping)

    def stop(self, *, force: bool) -> None:
        """End all workers. With `force`, do not let them finish."""
        launcher = self._disconnect(force=force)
        if launcher is not None:
            launcher.stop(force=force)
        while self._stopping:
            self._stopping.pop().join(_STOP_TIMEOUT_S)

    def _disconnect(self, *, force: bool) -> Launcher | None:
        """Ask the workers to exit and close their channels. Return the launcher, which the caller must stop."""
        launcher, self._launcher = self._launcher, None
        while self.workers:
            channel = self.workers.pop().channel
            with contextlib.suppress(OSError, ValueError):  # an interrupt may have closed it
                if not force:
                    channel.send({"end": True})
                channel.close()
        return launcher

    def _stop_quietly(self, launcher: Launcher | None) -> None:
        try:
            if launcher is not None:
                launcher.stop(force=False)
        except Exception:
            logger.exception("cannot end workers that are no longer needed")

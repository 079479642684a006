"""Workers that are alike, as the head sees them: those that are there, and the launcher that brings them."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from neuroseg.execution.channel import Channel
from neuroseg.execution.scheduler import Key

# A worker completes one block while it computes the next.
_IN_HAND = 2
# A network may come from a slow disk.
OPENING_S = 120.0
# How long workers that leave while others work are waited for in the end.
_LEAVE_S = 15.0

logger = logging.getLogger(__name__)


class Launcher(Protocol):
    """Starts and ends the workers of a pool."""

    def keep(self, wanted: int, progress: int) -> None:
        """Keep `wanted` workers running or starting, and return at once. With 0, running workers may stay.

        `progress` counts what workers have done or failed so far: where it does not grow, those that end are replaced
        later and later, and not for ever. Raises NeurosegError when nobody will come any more.
        """
        ...

    def came(self) -> list[Channel]:
        """Return the channels of workers that came since the last call."""
        ...

    @property
    def bell(self) -> Any:
        """What becomes readable when a worker connects; None if `keep` starts workers itself."""
        ...

    def end(self, channel: Channel, job: str | None) -> None:
        """End a worker that hangs, or the job of a cluster that it is; its channel is closed already."""
        ...

    def stop(self, *, at_once: bool) -> None:
        """End all workers. With `at_once`, do not wait for those that were told to leave."""
        ...


@dataclass(eq=False)
class Worker:
    """A worker, the stages that it has set up, and the blocks in its hand, by when they were given.

    While it sets stages up, `opening` says since when.
    """

    channel: Channel
    job: str | None = None
    opening: float | None = None
    opened: set[str] = field(default_factory=set)
    in_hand: dict[Key, float] = field(default_factory=dict)
    begun: set[Key] = field(default_factory=set)

    def open(self, stages: list[str]) -> None:
        """Have it set stages up, one after the other."""
        self.opening = time.monotonic()
        for stage in stages:
            self.channel.send({"open": stage})

    def is_late(self, timeout_s: float) -> bool:
        """Return whether it has had a block, or has been setting a stage up, for too long."""
        now = time.monotonic()
        is_stuck = self.opening is not None and now > self.opening + max(timeout_s, OPENING_S)
        return is_stuck or any(now > given + timeout_s for given in self.in_hand.values())

    @property
    def is_free(self) -> bool:
        """Whether it may begin another block."""
        return len(self.in_hand) < _IN_HAND and self.begun == self.in_hand.keys()


class Pool:
    """Workers that one launcher brings, `most` of which work at a time; it is launched when they are first wanted.

    Leaving the context ends them.
    """

    def __init__(self, launch: Callable[[], Launcher]) -> None:
        self._launch = launch
        self._launcher: Launcher | None = None
        self._leaving: list[threading.Thread] = []
        self.workers: list[Worker] = []
        self.most = 0
        self.progress = 0

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(at_once=False)

    @property
    def bell(self) -> Any:
        """The launcher's bell, None where there is none."""
        return None if self._launcher is None else self._launcher.bell

    def keep(self, wanted: int) -> None:
        """Keep `wanted` workers running or starting. With 0, running workers may stay."""
        if self._launcher is None and wanted:
            self._launcher = self._launch()
        if self._launcher is not None:
            self._launcher.keep(wanted, self.progress)

    def came(self) -> list[Worker]:
        """Return the workers that came since the last call; they belong to the pool now."""
        new = [Worker(channel) for channel in self._launcher.came()] if self._launcher is not None else []
        self.workers += new
        return new

    def lose(self, worker: Worker, *, end: bool) -> None:
        """Let go of a worker that is gone, or that is to `end`."""
        self.workers.remove(worker)
        worker.channel.close()
        if end and self._launcher is not None:
            self._launcher.end(worker.channel, worker.job)

    def leave(self) -> None:
        """End all workers, which nobody needs any more, without waiting for that: a cluster may take its time."""
        leaving = threading.Thread(target=self._stop_quietly, args=(self._dismissed(at_once=False),), daemon=True)
        leaving.start()
        self._leaving.append(leaving)

    def stop(self, *, at_once: bool) -> None:
        """End all workers, `at_once` whatever they are doing."""
        launcher = self._dismissed(at_once=at_once)
        if launcher is not None:
            launcher.stop(at_once=at_once)
        while self._leaving:
            self._leaving.pop().join(_LEAVE_S)

    def _dismissed(self, *, at_once: bool) -> Launcher | None:
        """Tell the workers to leave; returns the launcher, which has yet to be stopped."""
        launcher, self._launcher = self._launcher, None
        while self.workers:
            channel = self.workers.pop().channel
            with contextlib.suppress(OSError, ValueError):  # an interrupt may fall anywhere
                if not at_once:
                    channel.send({"end": True})
                channel.close()
        return launcher

    def _stop_quietly(self, launcher: Launcher | None) -> None:
        try:
            if launcher is not None:
                launcher.stop(at_once=False)
        except Exception:
            logger.exception("workers that nobody needs any more could not be ended")

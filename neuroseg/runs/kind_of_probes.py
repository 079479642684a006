"""The probes of a plan on one kind of machine: their jobs, and what is measured. See probe_jobs.py."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from neuroseg.errors import NeurosegError
from neuroseg.execution.channel import Channel
from neuroseg.execution.cluster.launcher import Jobs
from neuroseg.execution.cluster.program import Program, last_lines
from neuroseg.runs.measuring import Probe
from neuroseg.runs.plan import Plan
from neuroseg.runs.probe_processes import Probed, read_measurements, write_task

# Jobs may be missing for this long before they count as failed: a log may appear late on a network disk.
_MISSING_S = 3.0
_EXPLAIN_AFTER_S = 20.0

logger = logging.getLogger(__name__)


class KindOfProbes:
    """The probes on one kind of machine: its jobs, the blocks that no job has, and the measurements of the others."""

    def __init__(
        self, program: Program, stages: Sequence[str], plan: Plan, jobs: Jobs, blocks: Sequence[int], kept_log: Path
    ) -> None:
        self.name, self.stages, self.jobs = program.kind, stages, jobs
        self._program, self._plan, self._kept_log = program, plan, kept_log
        self._blocks, self._left = list(blocks), list(blocks)
        self._given: dict[Channel, tuple[int, Path]] = {}
        self.measured: dict[int, Probe] = {}
        self._attempts = 0
        self._short_since: float | None = None
        self._is_explained = False

    @property
    def missing(self) -> int:
        """The number of blocks that are not measured."""
        return len(self._blocks) - len(self.measured)

    def submit(self) -> None:
        """Submit one job for each block. Raises NeurosegError with kind and reason if the cluster refuses."""
        try:
            self.jobs.submit(len(self._blocks), threading.Event())
        except NeurosegError as error:
            raise self._failure(str(error)) from error

    def assign(self, channel: Channel) -> bool:
        """Give a block to the job at a channel. Return False if no block is left: another job was faster."""
        if not self._left:
            return False
        block, self._attempts = self._left.pop(0), self._attempts + 1
        folder = self._program.folder / f"{self.name}-{block}-{self._attempts}"
        write_task(self._plan, folder)
        self._given[channel] = block, folder
        channel.send({"folder": str(folder), "block": block})
        return True

    def finish(self, channel: Channel) -> None:
        """Read the measurements of the job at a channel."""
        block, folder = self._given.pop(channel)
        self.measured[block] = read_measurements(folder)

    def lose(self, channel: Channel) -> None:
        """Note that a job is gone. If the cluster starts it again, it gets the block again."""
        if channel in self._given:
            self._left.append(self._given.pop(channel)[0])

    def check(self, waited_s: float) -> None:
        """Raise NeurosegError if fewer jobs are left than blocks. Explain a long time in the queue once."""
        if not self._is_explained and waited_s > _EXPLAIN_AFTER_S:
            self._is_explained = True
            if not (self._given or self.measured) and (reason := self.jobs.pending_reason()):
                logger.warning("the probes of kind %s are waiting in the queue: %s", self.name, reason)
        active = self.jobs.count_active()
        if active is None or active >= self.missing:
            self._short_since = None
        elif self._short_since is None:
            self._short_since = waited_s
        elif waited_s > self._short_since + _MISSING_S:
            raise self._failure(f"a job ended without a result; {self.jobs.pending_reason() or self._keep_log()}")

    def give_up(self, wait_s: float) -> NeurosegError:
        """Return the error for jobs that take longer than `wait_s` seconds."""
        reason = self.jobs.pending_reason() or ("they are still measuring" if self._given else self._keep_log())
        problem = f"{self.missing} of {len(self._blocks)} jobs have no result after {wait_s:g} s"
        return self._failure(f"{problem}; {reason}", "wait longer with --probe-wait")

    def result(self) -> Probed:
        """Return the measurements, in the order of the blocks."""
        probes = tuple(self.measured[block] for block in self._blocks)
        return Probed(probes, median(probe.start_s for probe in probes), self.name)

    def _failure(self, reason: str, fix: str = "correct the cluster configuration file") -> NeurosegError:
        return NeurosegError(
            f"the probes on machines of kind {self.name} ({', '.join(self.stages)}) failed: {reason}",
            hint=f"{fix}, or omit --probe-jobs to measure on this machine",
        )

    def _keep_log(self) -> str:
        """Copy the newest log beside the workspace, because the folder is removed. Return its path and last lines."""
        log = self._program.newest_log()
        if log is None:
            return f"no job wrote a log in {self._program.logs}; the compute nodes may not see this folder"
        shutil.copyfile(log, self._kept_log)
        return f"{self._kept_log} ends with:\n  {last_lines(log)}"

"""Choose the executor of tasks. All stages of one kind share workers: `predict` on GPUs, `compute` on cores."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from types import TracebackType

from neuroseg.execution.cluster.launcher import WORKER, ClusterLauncher, Jobs
from neuroseg.execution.cluster.program import Program
from neuroseg.execution.cluster.site import COMPUTE, DEFAULT_JOBS, PREDICT, PREDICTING, Cluster
from neuroseg.execution.local import LocalWorkers
from neuroseg.execution.pool import Launcher, Pool
from neuroseg.execution.serial import SerialExecutor
from neuroseg.execution.task import Executor, Task
from neuroseg.execution.workers import Allocation, WorkersExecutor
from neuroseg.runs.cluster_jobs import ClusterJobs
from neuroseg.runs.options import CLUSTERS
from neuroseg.runs.plan import Plan
from neuroseg.stage import Stage
from neuroseg.storage.workspace import Workspace


class Executors:
    """The executors of a run of `stages`. Workers start when they are first needed and end with the context."""

    def __init__(self, workspace: Workspace, plan: Plan, stages: Sequence[Stage], cluster: Cluster) -> None:
        self._workspace, self._plan, self._stages = workspace, plan, list(stages)
        self._cluster = ClusterJobs(plan, cluster)
        self._pools: dict[str, Pool] = {}
        self._held = ExitStack()

    def __enter__(self) -> Executors:
        self._held.enter_context(self._cluster)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._held:
            for pool in self._pools.values():
                self._held.push(pool)

    def choose(self, tasks: Sequence[Task]) -> Executor:
        """Return the executor of the tasks. End the workers that neither they nor later stages need.

        If each task has at most one block, run it in this process instead of starting a worker on this machine. On a
        GPU, a worker predicts it, because this process must not use memory of the GPU until the run is over.
        """
        kinds = {task.name: self._kind(task.stage) for task in tasks}
        later = self._needed_after(tasks)
        for kind in self._pools.keys() - kinds.values() - later:
            self._pools.pop(kind).stop(force=False)
        needs_worker = self._pools.keys() & kinds.values() or PREDICT in kinds.values()
        is_small = all(len(task.blocks) <= 1 for task in tasks) and not needs_worker
        if self._plan.executor == "serial" or (is_small and self._plan.executor not in CLUSTERS):
            return SerialExecutor()
        allocations = {}
        for task in tasks:
            kind, most = kinds[task.name], self._count(task.stage)
            if kind not in self._pools:
                self._pools[kind] = Pool(partial(self._launcher, kind))
            allocations[task.name] = Allocation(self._pools[kind], most, last=kind not in later)
        for pool in self._pools.values():
            pool.max_workers = max(
                (allocation.max_workers for allocation in allocations.values() if allocation.pool is pool), default=0
            )
        return WorkersExecutor(allocations, self._plan.block_timeout_s)

    def _needed_after(self, tasks: Sequence[Task]) -> set[str]:
        """Return the kinds of worker that the stages after these tasks need."""
        names, given = [stage.name for stage in self._stages], {task.name for task in tasks}
        last = max((names.index(name) for name in given if name in names), default=-1)
        return {self._kind(stage) for stage in self._stages[last + 1 :]}

    def _kind(self, stage: Stage) -> str:
        """Return the kind of worker of a stage. On a cluster, stages with the same resources share a kind.

        On this machine, prediction has its own kind on GPUs. On CPUs, it shares the kind of the other stages, so that
        no more processes than cores compute.
        """
        if self._plan.executor in CLUSTERS:
            return self._cluster.site.kind_of(stage.name)
        return PREDICT if stage.name == PREDICTING and self._plan.device.startswith("cuda") else COMPUTE

    def _count(self, stage: Stage) -> int:
        """Return the maximum number of workers that process a stage at a time."""
        if self._plan.executor in CLUSTERS:
            return self._plan.workers or self._cluster.site.resources(stage.name).workers or DEFAULT_JOBS
        return self._plan.prediction_workers if stage.name == PREDICTING else self._plan.workers

    def _launcher(self, kind: str) -> Launcher:
        workspace, logs = self._workspace.path, self._workspace.logs
        if self._plan.executor == "local":
            return LocalWorkers(workspace, logs, kind)

        def create_jobs(token: str, head: str) -> Jobs:
            return self._cluster.of(Program(WORKER, workspace, logs / self._plan.executor, token, head, kind))

        return ClusterLauncher(workspace, create_jobs, self._cluster.hosts, self._cluster.site.port)

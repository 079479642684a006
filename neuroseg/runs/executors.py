"""Which executor runs a stage. Workers stay for all stages of their kind: `predict` on a GPU, `compute` on a core."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType

from neuroseg.blocks import Block
from neuroseg.execution.block import Executor
from neuroseg.execution.cluster.crew import WORKER, Crew, Jobs
from neuroseg.execution.cluster.dask import DaskConnection, DaskJobs
from neuroseg.execution.cluster.site import NO_SITE, STAGES, Cluster, Resources
from neuroseg.execution.cluster.slurm import SlurmJobs
from neuroseg.execution.door import own_hosts
from neuroseg.execution.local import LocalWorkers
from neuroseg.execution.serial import SerialExecutor
from neuroseg.execution.workers import Launcher, Workers
from neuroseg.runs.options import CLUSTERS
from neuroseg.runs.plan import Plan
from neuroseg.stage import Stage
from neuroseg.storage.workspace import Workspace

_PREDICT, _COMPUTE = "predict", "compute"
_FEWEST_JOBS = 2


class Executors:
    """The executors of a run of `stages`. Workers are started when they are first needed, and end with the context."""

    def __init__(self, workspace: Workspace, plan: Plan, stages: Sequence[Stage], cluster: Cluster) -> None:
        self._workspace, self._plan, self._stages = workspace, plan, list(stages)
        self._site = cluster.described() if plan.executor in CLUSTERS else NO_SITE
        self._dask = DaskConnection(cluster.dask_address, plan.workers or _FEWEST_JOBS)
        self._kinds: dict[str, Workers] = {}
        self._held = ExitStack()

    def __enter__(self) -> Executors:
        self._held.enter_context(self._dask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._held:
            for workers in self._kinds.values():
                self._held.push(workers)

    def choose(self, stage: Stage, pending: Sequence[Block]) -> Executor:
        """Return what runs the pending blocks of a stage; workers that no later stage needs are let go.

        One block alone is not worth the start of a worker on this machine, where none is there yet.
        """
        kind = self._kind(stage)
        self._let_go(stage)
        is_cluster = self._plan.executor in CLUSTERS
        if self._plan.executor == "serial" or (len(pending) == 1 and not is_cluster and kind not in self._kinds):
            return SerialExecutor()
        if kind not in self._kinds:
            self._kinds[kind] = Workers(self._launcher(kind, stage), 0, self._plan.block_timeout_s)
        self._kinds[kind].most = self._count(kind, stage)
        return self._kinds[kind]

    def _let_go(self, stage: Stage) -> None:
        """End workers that no later stage needs, and while a prediction goes on, all that would wait for its end."""
        names = [each.name for each in self._stages]
        if stage.name not in names:
            return
        needed = {self._kind(each) for each in self._stages[names.index(stage.name) :]}
        if self._kind(stage).startswith(_PREDICT):
            needed = {self._kind(stage)}
        for kind in self._kinds.keys() - needed:
            self._kinds[kind].__exit__()
            del self._kinds[kind]

    def _kind(self, stage: Stage) -> str:
        """Return the kind of worker: on a cluster, stages whose jobs ask for the same share theirs."""
        name = stage.name.split("-")[0]
        kind = _PREDICT if name == "affinities" else _COMPUTE
        alike = [other for other in STAGES if (other == "affinities") == (name == "affinities")]
        first = next(other for other in alike if self._asked(other) == self._asked(name))
        return kind if first == alike[0] else f"{kind}-{first}"

    def _asked(self, stage: str) -> Resources:
        """Return what a worker for a stage asks for, however many there are."""
        return self._site.resources(stage).model_copy(update={"workers": None})

    def _count(self, kind: str, stage: Stage) -> int:
        """Return how many workers of a kind a stage is done by at a time."""
        if self._plan.executor in CLUSTERS:
            return self._plan.workers or self._site.resources(stage.name).workers or _FEWEST_JOBS
        return self._plan.prediction_workers if kind == _PREDICT else self._plan.workers

    def _launcher(self, kind: str, stage: Stage) -> Launcher:
        workspace, logs, site = self._workspace.path, self._workspace.logs, self._site
        asked = site.resources(stage.name)

        def as_slurm_jobs(token: str, head: str) -> Jobs:
            return SlurmJobs(workspace, logs / "slurm", site, kind, asked, WORKER, token, head)

        def as_dask_tasks(token: str, head: str) -> Jobs:
            return DaskJobs(self._dask.client(), workspace, logs / "dask", kind, asked.gpus, token, head)

        if self._plan.executor == "local":
            return LocalWorkers(workspace, logs, kind, self._gpus() if kind == _PREDICT else ())
        hosts = [site.host] if site.host else own_hosts()
        if self._plan.executor == "slurm":
            return Crew(workspace, as_slurm_jobs, hosts, site.port)
        # A Dask cluster may be of this machine alone, whose name leads nowhere.
        return Crew(workspace, as_dask_tasks, hosts if site.host else ["127.0.0.1", *hosts], site.port)

    def _gpus(self) -> list[str]:
        from neuroseg.affinities.device import own_gpus

        return own_gpus(self._plan.device)

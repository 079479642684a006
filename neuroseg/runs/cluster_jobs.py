"""The jobs of a plan's cluster, SLURM or Dask, for workers (executors.py) and for probes (probe_jobs.py)."""

from __future__ import annotations

from types import TracebackType

from neuroseg.execution.cluster.dask import DaskConnection, DaskJobs
from neuroseg.execution.cluster.launcher import Jobs
from neuroseg.execution.cluster.program import Program
from neuroseg.execution.cluster.site import DEFAULT_JOBS, NO_SITE, Cluster
from neuroseg.execution.cluster.slurm import SlurmJobs
from neuroseg.execution.listener import own_hosts
from neuroseg.runs.options import CLUSTERS
from neuroseg.runs.plan import Plan


class ClusterJobs:
    """Creates jobs on the cluster of a plan. A Dask cluster on this machine lives as long as the context."""

    def __init__(self, plan: Plan, cluster: Cluster) -> None:
        self._executor = plan.executor
        self.site = cluster.loaded_site() if plan.executor in CLUSTERS else NO_SITE
        self._dask = DaskConnection(cluster.dask_address, plan.workers or DEFAULT_JOBS)

    def __enter__(self) -> ClusterJobs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._dask.__exit__(kind, error, traceback)

    def of(self, program: Program) -> Jobs:
        """Return jobs that run a program with the resources of its kind. None is submitted yet."""
        requested = self.site.resources(self.site.kinds()[program.kind][0])
        if self._executor == "slurm":
            return SlurmJobs(program, self.site, requested)
        return DaskJobs(program, self._dask.client(), requested.gpus)

    @property
    def hosts(self) -> list[str]:
        """The names and addresses of this machine that jobs try."""
        found = [self.site.host] if self.site.host else own_hosts()
        # A Dask cluster may run on this machine, and the name of this machine may not resolve.
        return found if self._executor == "slurm" or self.site.host else ["127.0.0.1", *found]

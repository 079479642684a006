"""The executors that can be tested on this machine, and the test suite for those of a run."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import ClassVar

import pytest

from neuroseg.execution.cluster.site import NO_CLUSTER, Cluster
from neuroseg.execution.task import Choose, Executor, Task
from neuroseg.runs.executors import Executors
from neuroseg.runs.plan import read_plan
from neuroseg.storage.workspace import Workspace
from neuroseg.testing.executors import ExecutorTests


def _reason() -> str:
    if shutil.which("sbatch") is None:
        return "no SLURM here: sbatch is not installed"
    if subprocess.run(["sinfo"], capture_output=True, check=False).returncode:
        return "no SLURM here: its controller does not answer"
    return ""


NO_SLURM = _reason()
# Processes that share the tests out give those of the one cluster to one of them.
SLURM = (pytest.mark.skipif(bool(NO_SLURM), reason=NO_SLURM), pytest.mark.xdist_group("slurm"))
needs_dask = pytest.mark.skipif(not find_spec("distributed"), reason="the package distributed is not installed")
EXECUTORS = (
    "serial",
    "local",
    pytest.param("slurm", marks=(*SLURM, pytest.mark.long)),
    pytest.param("dask", marks=(needs_dask, pytest.mark.long)),
)


def needs_slurm(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that needs the cluster."""
    for mark in SLURM:
        test = mark(test)
    return test


@dataclass(frozen=True)
class _Chosen:
    """Runs tasks with the executor that `choose` returns."""

    choose: Choose

    def run(self, tasks: Sequence[Task]) -> list[int]:
        return self.choose(tasks).run(tasks)


class ExecutorOfRun(ExecutorTests):
    """The suite for the executor that `--executor NAME --workers 2` chooses."""

    name: ClassVar[str]
    cluster: ClassVar[Cluster] = NO_CLUSTER

    @contextmanager
    def executor(self, workspace: Workspace) -> Iterator[Executor]:
        plan = read_plan(workspace).model_copy(update={"executor": self.name, "workers": 2})
        with Executors(workspace, plan, plan.stages(workspace), self.cluster) as executors:
            yield _Chosen(executors.choose)

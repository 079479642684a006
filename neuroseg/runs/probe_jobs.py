"""Run the probes of a plan as jobs of a cluster, on each kind of machine that the stages of the plan request.

    head                                                  job (workers/measurement_job.py)
    submits one job for each kind and block         ->
                                                    <-    {"kind": "predict"}
    {"folder": "/shared/...", "block": 7}           ->    measures the block, and writes the measurements in the folder
                                                    <-    {"measured": 7}

Results are files in a folder beside the workspace, because all machines see it. A run writes its blocks there, so the
probes use the same disk. The connection reports immediately that a file is written, and ends the jobs with the head.
"""

from __future__ import annotations

import logging
import selectors
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from neuroseg.errors import InputError
from neuroseg.execution.channel import Channel
from neuroseg.execution.cluster.launcher import listening
from neuroseg.execution.cluster.program import Program
from neuroseg.execution.cluster.site import PREDICTING, Cluster, Site
from neuroseg.execution.ending import slow_to_end
from neuroseg.execution.listener import Listener
from neuroseg.execution.task import Observe
from neuroseg.runs.cluster_jobs import ClusterJobs
from neuroseg.runs.kind_of_probes import KindOfProbes
from neuroseg.runs.plan import Plan
from neuroseg.runs.probe_processes import Probed
from neuroseg.storage.workspace import Workspace

PROGRAM = "neuroseg.workers.measurement_job"
_POLL_S = 0.5
# Interval at which jobs are counted: at the beginning, and later in a long queue.
_MIN_COUNT_S, _MAX_COUNT_S = 1.0, 10.0
_END_TIMEOUT_S = 10.0
_REMOVE_ATTEMPTS, _REMOVE_PAUSE_S = 10, 0.3

logger = logging.getLogger(__name__)


def probed_in_jobs(
    plan: Plan, workspace: Workspace, blocks: Sequence[int], cluster: Cluster, wait_s: float, observe: Observe
) -> dict[str, Probed]:
    """Return the measurements for each stage, by its name without a number, from jobs of its kind.

    `observe` is called with the number of measured blocks of all kinds. Raises NeurosegError with kind and log if a job
    fails, or if measurements are missing after `wait_s` seconds. Leaves neither jobs nor files, except the log of a
    job that failed: `V.plan.log` beside `V.neuroseg`.
    """
    kept_log = log_path(workspace)
    kept_log.unlink(missing_ok=True)
    with ExitStack() as held:
        held.enter_context(slow_to_end())
        folder = held.enter_context(_folder_beside(workspace))
        cluster_jobs = held.enter_context(ClusterJobs(plan, cluster))
        used = kinds_of(plan, workspace, cluster_jobs.site)

        def create(token: str, head: str) -> list[KindOfProbes]:
            programs = [Program(PROGRAM, folder, folder / "logs" / kind, token, head, kind) for kind in used]
            return [
                KindOfProbes(
                    each, used[each.kind], _plan_of(plan, used[each.kind]), cluster_jobs.of(each), blocks, kept_log
                )
                for each in programs
            ]

        # Closed after the secret is removed, so that jobs know that this end is intended.
        channels = held.enter_context(ExitStack())
        with listening(folder, create, cluster_jobs.hosts, cluster_jobs.site.port) as (listener, kinds), _ending(kinds):
            for kind in kinds:
                kind.submit()
            _collect(listener, kinds, wait_s, observe, channels)
    return {stage: kind.result() for kind in kinds for stage in kind.stages}


def kinds_of(plan: Plan, workspace: Workspace, site: Site) -> dict[str, tuple[str, ...]]:
    """Return the kinds of machine that a plan uses, and the stages of each, by their names without numbers."""
    names = {stage.name.split("-")[0] for stage in plan.stages(workspace)}
    used = {kind: tuple(stage for stage in stages if stage in names) for kind, stages in site.kinds().items()}
    return {kind: stages for kind, stages in used.items() if stages}


def log_path(workspace: Workspace) -> Path:
    """Return the path of the kept log of a job that failed: `V.plan.log` beside `V.neuroseg`."""
    return workspace.path.resolve().with_name(workspace.path.name.removesuffix(".neuroseg") + ".plan.log")


def _plan_of(plan: Plan, stages: Sequence[str]) -> Plan:
    """Return the plan for probes of some stages. Only machines that predict need the device of the prediction."""
    return plan if PREDICTING in stages else plan.model_copy(update={"device": "cpu"})


@contextmanager
def _folder_beside(workspace: Workspace) -> Iterator[Path]:
    """Create a folder beside a workspace, and remove it afterwards. Raises InputError if that is not possible."""
    parent = workspace.path.resolve().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{workspace.path.name}-plan-", dir=parent))
    except OSError as error:
        raise InputError(
            f"cannot create a folder in {parent}: {error.strerror}",
            hint="choose another workspace with -o, on a disk that all machines see",
        ) from error
    try:
        yield folder
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a folder. A job that is being cancelled may still write in it, so look again after a moment."""
    for _ in range(_REMOVE_ATTEMPTS):
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(_REMOVE_PAUSE_S)
        if not folder.exists():
            return
    logger.warning("cannot remove %s; remove it yourself", folder)


@contextmanager
def _ending(kinds: Sequence[KindOfProbes]) -> Iterator[None]:
    """Cancel all jobs at the end of the context, and wait until they are over."""
    try:
        yield
    finally:
        with ExitStack() as all_of_them:  # also if cancelling one kind raises
            for kind in kinds:
                all_of_them.callback(kind.jobs.cancel_all, force=kind.missing > 0)
        deadline = time.monotonic() + _END_TIMEOUT_S
        while time.monotonic() < deadline and any(kind.jobs.count_active() for kind in kinds):
            time.sleep(_POLL_S)


def _collect(
    listener: Listener, kinds: Sequence[KindOfProbes], wait_s: float, observe: Observe, opened: ExitStack
) -> None:
    """Give blocks to the jobs that connect, until all are measured. `opened` closes the connections later."""
    began, next_count_s = time.monotonic(), _MIN_COUNT_S
    with selectors.DefaultSelector() as selector:
        while missing := [kind for kind in kinds if kind.missing]:
            for channel in listener.new_channels():
                opened.callback(channel.close)
                selector.register(channel, selectors.EVENT_READ)
            for key, _ in selector.select(_POLL_S):
                assert isinstance(key.fileobj, Channel)
                _receive(selector, key.fileobj, key.data, kinds)
            observe(sum(len(kind.measured) for kind in kinds), 0)
            waited_s = time.monotonic() - began
            if waited_s > wait_s:
                waiting = [kind for kind in missing if kind.jobs.pending_reason()]
                raise (waiting or missing)[0].give_up(wait_s)
            if waited_s > next_count_s:
                next_count_s = waited_s + min(_MAX_COUNT_S, max(_MIN_COUNT_S, waited_s / 60))
                for kind in missing:
                    kind.check(waited_s)


def _receive(
    selector: selectors.BaseSelector, channel: Channel, owner: KindOfProbes | None, kinds: Sequence[KindOfProbes]
) -> None:
    """Handle one message of a job. Close the connection of a job that is gone or not needed."""
    message = channel.receive()
    if message is not None and owner is not None:
        owner.finish(channel)
        return
    if message is not None:
        owner = next((kind for kind in kinds if kind.name == message.get("kind")), None)
        if owner is not None and owner.assign(channel):
            selector.modify(channel, selectors.EVENT_READ, owner)
            return
    elif owner is not None:
        owner.lose(channel)
    selector.unregister(channel)
    channel.close()

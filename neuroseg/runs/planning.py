"""Plan a run without running it: resolve its options, probe some blocks, estimate the whole run, advise.

Probes run on this machine (probe_processes.py), or in jobs of a cluster (probe_jobs.py).

options  ->  plan of the run  ->  probes of up to three blocks  ->  estimate (stored beside the workspace)  ->  advice
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neuroseg.blocks import Block
from neuroseg.errors import InputError
from neuroseg.execution.block import peak_memory_mib
from neuroseg.execution.cluster.site import NO_CLUSTER, NO_SITE, STAGES, Cluster
from neuroseg.execution.task import Begin, silent
from neuroseg.runs.block_sums import spread_blocks
from neuroseg.runs.cores import own_cores
from neuroseg.runs.estimate import Estimate, Setting, estimated
from neuroseg.runs.methods import check_methods
from neuroseg.runs.options import CLUSTERS, Options
from neuroseg.runs.plan import Plan
from neuroseg.runs.plan_advice import advice_for
from neuroseg.runs.probe_jobs import kinds_of, probed_in_jobs
from neuroseg.runs.probe_processes import Probed, probed
from neuroseg.runs.resolve import plan_of_run
from neuroseg.runs.stored_estimate import write_estimate
from neuroseg.storage.cleaning import STREAM
from neuroseg.storage.workspace import Workspace

_MOST_PROBES = 3


@dataclass(frozen=True)
class Planned:
    """A planned run: its workspace, its resolved options, the estimate and where it is stored, and advice."""

    workspace: Workspace
    plan: Plan
    estimate: Estimate
    path: Path
    advice: Sequence[str]


def plan_a_run(
    options: Options,
    *,
    gpus: int | None = None,
    cluster: Cluster = NO_CLUSTER,
    jobs_wait_s: float | None = None,
    begin: Begin = silent,
) -> Planned:
    """Estimate a run with these options. Only the estimate is written, beside the workspace.

    `gpus`: the number of GPUs that predict. `jobs_wait_s`: measure in jobs of the cluster, and wait this long for them.
    None: measure on this machine. Raises InputError for options that a run refuses.
    """
    began = time.monotonic()
    workspace, plan, options = plan_of_run(options, cluster)
    head_s = time.monotonic() - began
    check_methods(plan, options)
    site = cluster.loaded_site() if plan.executor in CLUSTERS else NO_SITE
    setting = Setting(site, gpus, options.keep == STREAM, head_s, peak_memory_mib())
    if jobs_wait_s is None:
        measured = _probed_here(plan, _on_this_machine(plan, options), begin)
    else:
        measured = _probed_in_jobs(plan, workspace, cluster, jobs_wait_s, begin)
    estimate = estimated(plan, workspace, measured, setting)
    path = write_estimate(workspace, plan, estimate)
    return Planned(workspace, plan, estimate, path, advice_for(plan, workspace, estimate, setting))


def _on_this_machine(plan: Plan, options: Options) -> Plan:
    """Return the plan whose prediction runs on this machine's device, not on that of a cluster."""
    if plan.executor not in CLUSTERS or plan.kind != "raw":
        return plan
    return plan_of_run(options.model_copy(update={"executor": "serial", "device": "auto"}))[1]


def _blocks_to_probe(plan: Plan) -> list[Block]:
    """Return up to three blocks. Raises InputError if the mask excludes all of them."""
    blocks = spread_blocks(plan.lattice, _MOST_PROBES)
    if not blocks:
        assert plan.mask is not None
        raise InputError(f"the mask {plan.mask.path} has no voxel in the blocks of the region {plan.roi}")
    return blocks


def _probed_in_jobs(
    plan: Plan, workspace: Workspace, cluster: Cluster, wait_s: float, begin: Begin
) -> dict[str, Probed]:
    """Probe up to three blocks on each kind of machine. Raises InputError if the plan does not use a cluster."""
    if plan.executor not in CLUSTERS:
        raise InputError(
            f"--probe-jobs needs a cluster, but --executor is {plan.executor}",
            hint="add --executor slurm or dask, or omit --probe-jobs to measure on this machine",
        )
    blocks, kinds = _blocks_to_probe(plan), len(kinds_of(plan, workspace, cluster.loaded_site()))
    observe = begin("probes", kinds * len(blocks), kinds * sum(block.voxels for block in blocks))
    return probed_in_jobs(plan, workspace, [block.index for block in blocks], cluster, wait_s, observe)


def _probed_here(plan: Plan, here: Plan, begin: Begin) -> dict[str, Probed]:
    """Probe up to three blocks in a temporary folder, as many at a time as workers share this machine."""
    blocks = _blocks_to_probe(plan)
    is_shared = plan.executor == "local" and not here.device.startswith("cuda")
    parallel = min(len(blocks), plan.workers, own_cores()) if is_shared else 1
    observe = begin("probes", len(blocks), sum(block.voxels for block in blocks))
    with tempfile.TemporaryDirectory(prefix="neuroseg-plan-") as folder:
        found = probed(here, [block.index for block in blocks], Path(folder), parallel, observe)
    return dict.fromkeys(STAGES, found)

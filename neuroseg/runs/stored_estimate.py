"""Store the estimate of a planned run beside its workspace, and compare the run with it at the end.

The file lies beside the workspace, because planning does not create the workspace. It records the settings of the run.
If a run has other settings, it is not compared.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neuroseg.configuration import validated
from neuroseg.errors import InputError
from neuroseg.execution.block import ledger_of, peak_memory_mib
from neuroseg.runs.estimate import Estimate
from neuroseg.runs.plan import Plan, hash_of
from neuroseg.runs.stages import StageSummary
from neuroseg.runs.temporary import most_at_a_time
from neuroseg.stage import Stage
from neuroseg.storage.publish import publish_text
from neuroseg.storage.state import mapping_in
from neuroseg.storage.workspace import Workspace

_SUFFIX = ".plan.json"
# Stages whose settings (threshold, minimum size) change neither time nor disk.
_NOT_COMPARED = ("lookup", "relabel", "pyramid")


@dataclass(frozen=True)
class Deviation:
    """An estimated value and that of the run."""

    planned: float
    taken: float

    @property
    def percent(self) -> float:
        """How much more the run took, in percent of the estimate. Negative: less."""
        return 100 * (self.taken / self.planned - 1) if self.planned else 0.0


def estimate_path(workspace: Workspace) -> Path:
    """Return the path of the estimate of a workspace: `V.plan.json` beside `V.neuroseg`."""
    return workspace.path.with_name(workspace.path.name.removesuffix(".neuroseg") + _SUFFIX)


def write_estimate(workspace: Workspace, plan: Plan, estimate: Estimate) -> Path:
    """Write an estimate beside a workspace, and return its path. Raises InputError if the folder is not writable."""
    path = estimate_path(workspace)
    content = {"settings": _settings(workspace, plan), "estimate": estimate.model_dump(mode="json")}
    try:
        publish_text(path, json.dumps(content, indent=2) + "\n")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}", hint="choose another workspace with -o") from error
    return path


def read_estimate(workspace: Workspace, plan: Plan) -> Estimate | None:
    """Return the estimate of a run with the settings of `plan`. None if there is none, or if it cannot be read."""
    path = estimate_path(workspace)
    content = mapping_in(path)
    if content is None or content.get("settings") != _settings(workspace, plan):
        return None
    try:
        return validated(content["estimate"], Estimate, str(path))
    except (InputError, KeyError):
        return None  # another version wrote it


def deviations(
    estimate: Estimate, stages: Sequence[Stage], summaries: Sequence[StageSummary], workspace: Workspace, took_s: float
) -> dict[str, Deviation]:
    """Return the deviations of a run from its estimate, by quantity. Empty if the run resumed another one."""
    if {row.stage: row.blocks for row in estimate.stages} != {each.stage: each.blocks for each in summaries}:
        return {}
    found = {
        "seconds": Deviation(estimate.seconds, took_s),
        "worker_peak_mib": Deviation(estimate.worker_peak_mib, max(each.peak_mib for each in summaries)),
        "head_peak_mib": Deviation(estimate.head_peak_mib, peak_memory_mib()),
    }
    streamed = {each.stage: each.peak_disk_bytes for each in summaries if each.peak_disk_bytes}
    if bool(streamed) == estimate.is_streamed:
        sizes = {stage.name: _bytes_written(workspace, stage) for stage in stages} | streamed
        found["disk_bytes"] = Deviation(estimate.peak_disk_bytes, most_at_a_time(stages, sizes))
    return found


def _bytes_written(workspace: Workspace, stage: Stage) -> int:
    """Return the bytes of all artifacts that a stage wrote, also those that were removed after use."""
    blocks = stage.lattice.blocks(stage.halo)
    return int(ledger_of(workspace, stage).written(blocks).sizes.sum())


def _settings(workspace: Workspace, plan: Plan) -> str:
    """Return a hash of the settings that time, disk and memory of a run depend on."""
    identities = [
        dict(stage.identity) for stage in plan.stages(workspace) if stage.name.split("-")[0] not in _NOT_COMPARED
    ]
    workers = [plan.executor, plan.workers, plan.prediction_workers]
    return hash_of({"stages": identities, "roi": plan.roi, "workers": workers})

"""The progress of a run and its workers, from the ledger."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neuroseg.execution.failures import message_and_hint
from neuroseg.runs.damage import missing_blocks
from neuroseg.runs.finished import is_finished, stages_as_stored
from neuroseg.runs.pipeline import workspace_at
from neuroseg.runs.plan import PREDICTION
from neuroseg.storage.done_table import DoneRecords

_RECENT_S = 600.0

RUNNING, DONE, FAILED, STOPPED = "running", "done", "failed", "stopped"

Rows = list[dict[str, Any]]


def state_of(rows: Sequence[Mapping[str, Any]], *, is_in_use: bool, is_published: bool) -> str:
    """Return the state of a run, from the rows of its stages.

    A run that holds the lock is running, even if no block is pending between two stages. If only the prediction was
    begun, it is done without a segmentation. A segmentation is done when it is published.
    """
    if is_in_use:
        return RUNNING
    predicted = [row for row in rows if row["stage"] in PREDICTION]
    wanted = predicted if not any(row["begun"] for row in rows if row not in predicted) else rows
    if any(row["failed"] for row in wanted):
        return FAILED
    complete = bool(wanted) and all(row["left"] == 0 for row in wanted)
    return DONE if complete and (wanted is predicted or is_published) else STOPPED


def run_state(path: str) -> tuple[str, Rows, Rows]:
    """Return the state of a run, one row per stage, and one row per worker, from its ledger."""
    workspace, plan = workspace_at(path)
    # Test the lock before reading the ledger: if the run has ended, the ledger is complete.
    rows, all_records, is_in_use = [], {}, workspace.is_in_use()
    for stage in stages_as_stored(workspace, plan):
        ledger = workspace.ledger(stage.name, stage.identity, stage.scope)
        blocks = stage.lattice.blocks(stage.halo)
        left = len(ledger.pending(blocks))
        records, failures = ledger.done_records(), ledger.failures()
        all_records[stage.name] = records
        rate = recent_rate(records)
        block_voxels = blocks.voxels / max(1, len(blocks))
        rows.append(
            {
                "stage": stage.name,
                "begun": ledger.is_claimed(),
                "blocks": len(blocks),
                "done": len(blocks) - left,
                "running": len(ledger.running()) if is_in_use else 0,
                "failed": len(failures),
                "failures": {
                    index: "\nhint: ".join(filter(None, message_and_hint(cause))) for index, cause in failures.items()
                },
                "left": left,
                # An active run checks this itself, and checking every two seconds would slow it down.
                "missing": 0 if is_in_use else len(missing_blocks(workspace, stage)),
                "mvoxel_per_s": rate,
                "overall_mvoxel_per_s": _rate(records),
                "seconds_left": left * block_voxels / 1e6 / rate if rate and left and is_in_use else None,
            }
        )
    state = state_of(rows, is_in_use=is_in_use, is_published=is_finished(workspace, plan))
    return state, rows, worker_rows(all_records, time.time())


def recent_rate(records: DoneRecords) -> float | None:
    """Return Mvoxel/s over the ten minutes before the last done block. None without blocks."""
    return _rate(records.where(records.times > records.times.max(initial=0.0) - _RECENT_S))


def worker_rows(records: Mapping[str, DoneRecords], now: float) -> Rows:
    """Return one row per process that completed a block in the last ten minutes, from the records by stage."""
    by_worker: dict[tuple[str, int], list[tuple[str, DoneRecords]]] = defaultdict(list)
    for stage, each in records.items():
        recent = each.where(each.times > now - _RECENT_S)
        processes = [(about.host, about.process) for about in recent.common]
        for worker in {processes[number] for number in np.unique(recent.about)}:
            host, process = worker
            if host is not None and process is not None:
                is_its = np.array([known == worker for known in processes])[recent.about]
                by_worker[host, process].append((stage, recent.where(is_its)))
    return [_worker_row(*worker, made, now) for worker, made in sorted(by_worker.items())]


def _worker_row(host: str, process: int, made: Sequence[tuple[str, DoneRecords]], now: float) -> dict[str, Any]:
    stage, records = max(made, key=lambda pair: pair[1].times.max())
    last = int(records.times.argmax())
    about = records.common[records.about[last]]
    return {
        "host": host,
        "process": process,
        "job": about.job,
        "device": about.device or "-",
        "blocks": sum(len(each) for _, each in made),
        "mvoxel_per_s": _rate(records),
        "peak_mib": about.peak_mib,
        "stage": stage,
        "block": int(records.blocks[last]),
        "seconds_ago": now - float(records.times[last]),
    }


def _rate(records: DoneRecords) -> float | None:
    """Return Mvoxel/s from the start of the first block to the end of the last one. None without blocks."""
    if not len(records):
        return None
    last, first = float(records.times.max()), float((records.times - records.seconds).min())
    return int(records.voxels.sum()) / (last - first) / 1e6 if last > first else None

"""The progress of a run and its workers, from the ledger."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from neuroseg.execution.failures import message_and_hint
from neuroseg.runs.damage import missing_blocks
from neuroseg.runs.finished import is_finished, stages_as_stored
from neuroseg.runs.pipeline import workspace_at
from neuroseg.runs.plan import PREDICTION

_RECENT_S = 600.0

RUNNING, DONE, FAILED, STOPPED = "running", "done", "failed", "stopped"

Records = list[dict[str, Any]]


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


def run_state(path: str) -> tuple[str, Records, Records]:
    """Return the state of a run, one row per stage, and one row per worker, from its ledger."""
    workspace, plan = workspace_at(path)
    # Test the lock before reading the ledger: if the run has ended, the ledger is complete.
    rows, all_records, is_in_use = [], {}, workspace.is_in_use()
    for stage in stages_as_stored(workspace, plan):
        ledger = workspace.ledger(stage.name, stage.identity, stage.scope)
        blocks = list(stage.lattice.blocks(stage.halo))
        left = len(ledger.pending(blocks))
        records, failures = ledger.records(), ledger.failures()
        all_records[stage.name] = records
        rate = recent_rate(records)
        block_voxels = sum(block.voxels for block in blocks) / max(1, len(blocks))
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


def recent_rate(records: Records) -> float | None:
    """Return Mvoxel/s over the ten minutes before the last done block. None without blocks."""
    last = max((record["time"] for record in records), default=0.0)
    return _rate([record for record in records if record["time"] > last - _RECENT_S])


def worker_rows(records: dict[str, Records], now: float) -> list[dict[str, Any]]:
    """Return one row per process that completed a block in the last ten minutes, from the records by stage."""
    by_worker: dict[tuple[str, int], list[tuple[str, dict[str, Any]]]] = {}
    for stage, each in records.items():
        for record in each:
            if record["time"] > now - _RECENT_S and {"host", "process"} <= record.keys():
                by_worker.setdefault((record["host"], record["process"]), []).append((stage, record))
    return [_worker_row(*worker, made, now) for worker, made in sorted(by_worker.items())]


def _worker_row(host: str, process: int, made: list[tuple[str, dict[str, Any]]], now: float) -> dict[str, Any]:
    stage, last = max(made, key=lambda pair: pair[1]["time"])
    return {
        "host": host,
        "process": process,
        "job": last.get("job"),
        "device": last.get("device", "-"),
        "blocks": len(made),
        "mvoxel_per_s": _rate([record for name, record in made if name == stage]),
        "peak_mib": last["peak_mib"],
        "stage": stage,
        "block": last["block"],
        "seconds_ago": now - last["time"],
    }


def _rate(records: Iterable[dict[str, Any]]) -> float | None:
    """Return Mvoxel/s from the start of the first block to the end of the last one. None without blocks."""
    records = list(records)
    last = max((record["time"] for record in records), default=0.0)
    first = min((record["time"] - record["seconds"] for record in records), default=0.0)
    return sum(record["voxels"] for record in records) / (last - first) / 1e6 if last > first else None

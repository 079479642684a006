"""The command `status`: progress and workers of a run, read from its ledger. Does not load torch."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from neuroseg.cli.options import Json
from neuroseg.cli.summary import print_json
from neuroseg.errors import NeurosegError

_CLEAR = "\033[H\033[J"
_COUNTS = ("done", "running", "failed", "left")
_EVERY_S = 2.0

_DESCRIPTIONS = {
    "running": "running",
    "done": "done",
    "failed": "not running: {left} blocks failed or wait; repeat the neuroseg run or segment command to retry them",
    "stopped": "not running: {left} blocks are left; repeat the neuroseg run or segment command to resume",
}


def status(
    workspace: Annotated[str, typer.Argument(metavar="WORKSPACE", help="Workspace of the run.")],
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every two seconds until the run ends.")] = False,
    json: Json = False,
) -> None:
    """Show the progress of a run.

    Use it while a run is active, or to find out why it stopped. It shows blocks, rate and time left of each stage, and
    the workers that completed a block in the last ten minutes. With --watch, the exit code is 1 if blocks are left.

    \b
    Examples:
      neuroseg status volume.neuroseg
      neuroseg status volume.neuroseg --watch
    """
    from neuroseg.checks.run_state import DONE, RUNNING, run_state

    while True:
        state, stages, workers = run_state(workspace)
        left = sum(row["left"] for row in stages)
        if json:
            print_json({"workspace": workspace, "state": state, "stages": stages, "workers": workers})
        else:
            print(_CLEAR if watch else "", end="")
            _print_stages(workspace, stages)
            _print_workers(workers)
            print(_DESCRIPTIONS[state].format(left=left))
            if lost := sum(row["missing"] for row in stages):
                print(f"missing on disk: {lost} of the done blocks; run neuroseg segment {workspace} to recompute them")
        if not watch or state == DONE:
            return
        if state != RUNNING:
            raise NeurosegError(f"{workspace} is {_DESCRIPTIONS[state].format(left=left)}")
        time.sleep(_EVERY_S)


def _print_stages(workspace: str, rows: list[dict[str, Any]]) -> None:
    from neuroseg.execution.failures import distinct_causes

    print(f"{workspace}")
    heads = "".join(f"{name:>8}" for name in _COUNTS)
    print(f"{'stage':>14}{heads} {'Mvoxel/s':>9} {'overall':>9} {'time left':>10}")
    for row in rows:
        eta = f"{row['seconds_left']:.0f} s" if row["seconds_left"] else "-"
        rates = f"{_number(row['mvoxel_per_s']):>9} {_number(row['overall_mvoxel_per_s']):>9}"
        counts = "".join(f"{row[name]:>8}" for name in _COUNTS)
        print(f"{row['stage']:>14}{counts} {rates} {eta:>10}")
    for row in rows:
        for cause, index in distinct_causes(row["failures"]):
            print(f"{cause}\n  neuroseg replay {workspace} {row['stage']} {index}")


def _print_workers(rows: list[dict[str, Any]]) -> None:
    if rows:
        print(f"{'worker':>24} {'job':>10} {'device':>7} {'blocks':>7} {'Mvoxel/s':>9} {'peak MiB':>9}  last block")
    for row in rows:
        name, ago = f"{row['host']}:{row['process']}", f"{row['seconds_ago']:.0f} s ago"
        rate, last = _number(row["mvoxel_per_s"]), f"{row['stage']} {row['block']}, {ago}"
        where = f"{row['job'] or '-':>10} {row['device']:>7}"
        print(f"{name:>24} {where} {row['blocks']:>7} {rate:>9} {row['peak_mib']:>9}  {last}")


def _number(value: float | None) -> str:
    return f"{value:.2f}" if value else "-"

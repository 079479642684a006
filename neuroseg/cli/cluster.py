"""The command `cluster check`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from neuroseg.cli.command import Command, Commands
from neuroseg.cli.options import Json
from neuroseg.cli.summary import print_json
from neuroseg.errors import NeurosegError

cluster = typer.Typer(
    cls=Commands, no_args_is_help=True, rich_markup_mode=None, help="Check a cluster before you run on it."
)


@cluster.command("check", cls=Command)
def check(
    site: Annotated[
        str | None,
        typer.Argument(metavar="FILE", help="Cluster configuration file (YAML).  [default: $NEUROSEG_CLUSTER]"),
    ] = None,
    folder: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FOLDER", help="Folder that all machines share, as for workspaces."),
    ] = Path(),
    wait: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="Time to wait for each job to start.")] = 120.0,
    json: Json = False,
) -> None:
    """Test a SLURM cluster configuration with short jobs.

    Use it before the first run on a cluster. It submits one job for each set of resources in the configuration. Each
    job runs `activate`, starts Python, opens the shared folder, connects to this machine and reports its hardware.
    Exit code 1 if a job fails.

    \b
    Examples:
      neuroseg cluster check
      neuroseg cluster check lab.yaml -o /shared/me
    """
    from neuroseg.execution.cluster.check import checked
    from neuroseg.execution.cluster.site import site_named

    found = []
    for one in checked(site_named(site), folder, wait_s=wait):
        found.append(one)
        if one.problem is None:
            report = ", ".join(f"{name} {value}" for name, value in one.said.items())
            print(f"ok    {', '.join(one.stages)}: after {one.seconds:.1f} s, {report}", file=sys.stderr)
        else:
            print(f"wrong {', '.join(one.stages)}: {one.problem}", file=sys.stderr)
    if json:
        print_json([asdict(one) for one in found])
    if any(one.problem for one in found):
        raise NeurosegError("the cluster is not ready", hint="fix the problems listed above, then run this check again")

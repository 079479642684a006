"""The commands `cluster check`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from neuroseg.cli import run
from neuroseg.cli.summary import print_json
from neuroseg.errors import NeurosegError

cluster = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Try out a cluster before a run needs it (docs/clusters.md)."
)


@cluster.command("check")
def check(
    site: Annotated[
        str | None, typer.Argument(metavar="SITE", help="What the cluster is like (default $NEUROSEG_CLUSTER).")
    ] = None,
    folder: Annotated[
        Path, typer.Option("-o", "--output", help="A folder that all machines see, as workspaces must.")
    ] = Path(),
    wait: Annotated[float, typer.Option(min=1, help="Seconds to wait for each job to run.")] = 120.0,
    json: run.Json = False,
) -> None:
    """Submit a short job for each kind of job that the cluster's description asks for, and say what is wrong.

    Each job runs `activate`, starts Python, looks for the folder, reaches this machine and reports its software and
    hardware. Exit code 1 if something is wrong.

    \b
    Examples: neuroseg cluster check
    neuroseg cluster check lab.yaml -o /shared/me
    """
    from neuroseg.execution.cluster.check import checked
    from neuroseg.execution.cluster.site import site_named

    found = []
    for one in checked(site_named(site), folder, wait_s=wait):
        found.append(one)
        if one.problem is None:
            told = ", ".join(f"{name} {value}" for name, value in one.said.items())
            print(f"ok    {', '.join(one.stages)}: after {one.seconds:.1f} s {told}", file=sys.stderr)
        else:
            print(f"wrong {', '.join(one.stages)}: {one.problem}", file=sys.stderr)
    if json:
        print_json([asdict(one) for one in found])
    if any(one.problem for one in found):
        raise NeurosegError("the cluster is not ready; see above")

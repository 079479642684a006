"""The command `train`."""

from __future__ import annotations

import logging
import sys
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from neuroseg.cli.summary import print_json
from neuroseg.errors import unknown_name


def train(
    configuration: Annotated[str, typer.Argument(metavar="CONFIG", help="A YAML file, or the name of a packaged one.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder (default runs/NAME).")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    restart: Annotated[bool, typer.Option("--restart", help="Begin again instead of resuming.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Train a network on labelled volumes and export the best as a bundle; the same command resumes.

    \b
    Example: neuroseg train fib25_light -o runs/fib25_light
    then: neuroseg run volume.zarr --model runs/fib25_light/bundle
    """
    from neuroseg.training.train import train as train_

    # Training takes long before its first step; say what it is doing.
    logging.getLogger("neuroseg").setLevel(logging.INFO)
    path = configuration_path(configuration)
    folder = output or Path("runs") / path.stem
    outcome = train_(path, folder, device=device, restart=restart)
    content = {
        "bundle": str(outcome.bundle),
        "step": outcome.step,
        "scoring": outcome.best.scoring,
        "threshold": outcome.best.threshold,
        **outcome.best.scores.as_dict(),
    }
    if json:
        print_json(content)
        return
    print(
        f"best bundle {outcome.bundle} (step {outcome.step}): VOI sum {outcome.best.scores.voi_sum:.3f} bits by "
        f"{outcome.best.scoring} at {outcome.best.threshold:g}\n  next: neuroseg run VOLUME --model {outcome.bundle}",
        file=sys.stderr,
    )


def configuration_path(text: str) -> Path:
    """Return the file at a path, or the packaged configuration of that name; raises InputError naming close ones."""
    if Path(text).is_file():
        return Path(text)
    folder = Path(str(resources.files("neuroseg.configs")))
    packaged = {path.stem: path for path in folder.glob("*.yaml")}
    if text not in packaged:
        raise unknown_name("configuration (no such file either)", text, packaged)
    return packaged[text]

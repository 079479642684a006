"""The commands `pretrain` and `train`."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neuroseg.cli import options as option
from neuroseg.cli.command import INPUT, OUTPUT, PREPARATION, TRAINING, typed_command
from neuroseg.cli.summary import print_json
from neuroseg.errors import InputError, unknown_name

if TYPE_CHECKING:
    from neuroseg.training.train import Outcome

_Configuration = Annotated[
    str | None, typer.Argument(metavar="CONFIG", help="Configuration: a YAML file or a packaged name.")
]
_Named = Annotated[
    str | None,
    typer.Option("-c", "--configuration", metavar="CONFIG", help="Same as the argument CONFIG.", rich_help_panel=INPUT),
]
_Output = Annotated[
    Path | None,
    typer.Option(
        "-o", "--output", metavar="FOLDER", help="Folder to write to.  [default: runs/CONFIG]", rich_help_panel=OUTPUT
    ),
]
_TrainOutput = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="PATH",
        help="Folder to write to. With --template: the YAML file. With --preview: the PNG file.  "
        "[default: runs/CONFIG, or CONFIG-preview.png]",
        rich_help_panel=OUTPUT,
    ),
]
Device = Annotated[
    str,
    typer.Option(metavar="DEVICE", help="Device for training: auto, cpu, cuda or cuda:N.", rich_help_panel=TRAINING),
]
Restart = Annotated[
    bool,
    typer.Option("--restart", help="Start from the beginning instead of resuming.", rich_help_panel=TRAINING),
]
_DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Check configuration and data, and print the expected size, time and memory. Write nothing.",
        rich_help_panel=PREPARATION,
    ),
]
_Template = Annotated[
    tuple[str, str] | None,
    typer.Option(
        "--template",
        metavar="RAW LABELS",
        help="Write a configuration for this labelled volume to -o mine.yaml. Train nothing.",
        rich_help_panel=PREPARATION,
    ),
]
_TemplateVoxelSize = Annotated[
    option.Triple | None,
    typer.Option(
        "--voxel-size",
        metavar="Z Y X",
        help="With --template: voxel size in nm.  [default: the volume's metadata]",
        rich_help_panel=PREPARATION,
    ),
]
_Preview = Annotated[
    bool,
    typer.Option(
        "--preview", help="Draw every perturbation of the training data. Train nothing.", rich_help_panel=PREPARATION
    ),
]


def pretrain(
    configuration: _Configuration = None,
    named: _Named = None,
    output: _Output = None,
    device: Device = "auto",
    restart: Restart = False,
    dry_run: _DryRun = False,
    json: option.Json = False,
) -> None:
    """Pre-train an encoder on unlabelled volumes.

    Use it if you have few labels and large unlabelled volumes. Then set network.encoder to the folder in the
    configuration of neuroseg train. To resume, run the same command again.

    \b
    Examples:
      neuroseg pretrain pretraining_fib25 --dry-run
      neuroseg pretrain pretraining_fib25 -o runs/pretraining_fib25
    """
    from neuroseg.storage.publish import require_folder
    from neuroseg.training.pretrain import dry_run_pretraining
    from neuroseg.training.pretrain import pretrain as pretrain_

    path = given_configuration(configuration, named)
    folder = output or Path("runs") / path.stem
    require_folder(folder)
    if dry_run:
        _show_dry_run(dry_run_pretraining(path, folder, device=device), folder, json)
        return
    _show_progress()
    made = pretrain_(path, folder, device=device, restart=restart)
    if not _is_first_process():
        return
    if json:
        print_json({"encoder": str(made.encoder), "step": made.step, "error": made.error})
        return
    print(
        f"encoder {made.encoder} (step {made.step}): mean square error {made.error:.5f} on held-out crops\n"
        f"  next: set network.encoder: {folder} in CONFIG, then neuroseg train CONFIG",
        file=sys.stderr,
    )


def train(
    context: typer.Context,
    configuration: _Configuration = None,
    named: _Named = None,
    output: _TrainOutput = None,
    bundle: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="NAME|FOLDER",
            help="Start from the weights of a bundled model or a bundle folder.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    device: Device = "auto",
    restart: Restart = False,
    dry_run: _DryRun = False,
    template: _Template = None,
    voxel_size: _TemplateVoxelSize = None,
    preview: _Preview = False,
    json: option.Json = False,
) -> None:
    """Train a network on labelled volumes.

    Use it if no bundled model fits your data. It writes the best network to the folder bundle, for --model of neuroseg
    run. To also train on unlabelled volumes, add a section consistency to the configuration. To resume, run the same
    command again.

    \b
    Examples:
      neuroseg train --template raw.zarr labels.zarr -o mine.yaml
      neuroseg train mine.yaml --dry-run
      neuroseg train mine.yaml --from fib25_light -o runs/mine
    """
    from neuroseg.storage.publish import require_folder
    from neuroseg.training.train import dry_run_training
    from neuroseg.training.train import train as train_

    if template is not None:
        if any((configuration, named, bundle, restart, dry_run, preview)):
            raise InputError(
                "--template writes a configuration and trains nothing",
                hint="use only -o, --voxel-size and --json with it",
            )
        _write_template(template, output, voxel_size, json)
        return
    if voxel_size is not None:
        raise InputError(
            "--voxel-size is only for --template", hint="set voxel_size_nm of each volume in the configuration"
        )
    path = given_configuration(configuration, named)
    folder = output or Path("runs") / path.stem
    if preview and dry_run:
        raise InputError("--dry-run and --preview cannot be used together", hint="use one of them")
    if preview and bundle is not None:
        raise InputError("--preview does not use a model", hint="leave out --from")
    if preview:
        _draw_preview(path, output or Path(f"{path.stem}-preview.png"))
        return
    require_folder(folder)
    if dry_run:
        _show_dry_run(dry_run_training(path, folder, bundle=bundle, device=device), folder, json)
        return
    _show_progress()
    outcome = train_(path, folder, bundle=bundle, device=device, restart=restart, command=typed_command(context))
    if not _is_first_process():
        return
    _show_outcome(outcome, json)


def _write_template(
    template: tuple[str, str], output: Path | None, voxel_size: option.Triple | None, json: bool
) -> None:
    from neuroseg.storage.publish import require_publishable
    from neuroseg.training.template import write_template

    if output is None:
        raise InputError("--template needs a file to write", hint="name it, such as -o mine.yaml")
    require_publishable(output, ".yaml")
    made = write_template(*template, output, voxel_size)
    if json:
        print_json({**asdict(made), "path": str(made.path)})
        return
    print(
        f"{made.path}: {made.network} network; trains on {made.training}, validates on {made.validation}\n"
        f"  next: neuroseg train {made.path} -o {Path('runs') / made.path.stem} --dry-run",
        file=sys.stderr,
    )


def _show_outcome(outcome: Outcome, json: bool) -> None:
    best = outcome.best
    content = {
        "bundle": str(outcome.bundle),
        "step": outcome.step,
        "scoring": best.scoring,
        "threshold": best.threshold,
    }
    if json:
        print_json({**content, **best.scores.as_dict()})
        return
    print(
        f"best bundle {outcome.bundle} (step {outcome.step}): VOI sum {best.scores.voi_sum:.3f} bits by {best.scoring} "
        f"at {best.threshold:g}\n  next: neuroseg run VOLUME --model {outcome.bundle}",
        file=sys.stderr,
    )


def _is_first_process() -> bool:
    """Return whether this is the first process that torchrun started: only it prints."""
    return os.environ.get("RANK", "0") == "0"


def _show_progress() -> None:
    """Show log messages of level INFO: training prepares for long before its first step."""
    logging.getLogger("neuroseg").setLevel(logging.INFO if _is_first_process() else logging.WARNING)


def _show_dry_run(found: dict[str, object], folder: Path, json: bool) -> None:
    from neuroseg.training.judging.dry_run import as_text

    if json:
        print_json(found)
    else:
        print(as_text(found, folder), file=sys.stderr)


def _draw_preview(configuration: Path, path: Path) -> None:
    from neuroseg.storage.publish import require_publishable
    from neuroseg.training.data.preview import draw_perturbations
    from neuroseg.training.train import open_training

    require_publishable(path, ".png")
    opened = open_training(configuration)
    consistency = opened.settings.consistency
    strength = 1.0 if consistency is None else consistency.perturbations.strength
    draw_perturbations(path, opened.training[0], seed=opened.settings.seed, strength=strength)
    print(f"{path}: all perturbations of the training data, raw and labels", file=sys.stderr)


def given_configuration(configuration: str | None, named: str | None) -> Path:
    """Return the path of the configuration given as argument or by -c; raises InputError for neither or both.

    `-c=NAME` means `-c NAME`, as in the published research code.
    """
    as_option = None if named is None else named.removeprefix("=")
    given = [text for text in (configuration, as_option) if text is not None]
    if len(given) != 1:
        problem = "no configuration" if not given else "two configurations"
        raise InputError(f"{problem} given", hint=f"name one: a YAML file, or one of {', '.join(_packaged())}")
    return configuration_path(given[0])


def configuration_path(text: str) -> Path:
    """Return the file at a path, or the packaged configuration of that name; InputError lists the valid names."""
    if Path(text).is_file():
        return Path(text)
    packaged = _packaged()
    if text not in packaged:
        raise unknown_name("configuration file or name", text, packaged)
    return packaged[text]


def _packaged() -> dict[str, Path]:
    folder = Path(str(resources.files("neuroseg.configs")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}

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
from neuroseg.cli.command import typed_command
from neuroseg.cli.summary import print_json
from neuroseg.errors import InputError, unknown_name

if TYPE_CHECKING:
    from neuroseg.training.train import Outcome

_Configuration = Annotated[
    str | None, typer.Argument(metavar="CONFIG", help="A YAML file, or the name of a packaged one.")
]
_Named = Annotated[str | None, typer.Option("-c", "--configuration", metavar="CONFIG", help="The same as an option.")]
_Output = Annotated[Path | None, typer.Option("-o", "--output", help="Folder (default runs/NAME).")]
_Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
_Restart = Annotated[bool, typer.Option("--restart", help="Begin again instead of resuming.")]
_DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check configuration and data; print size, time and memory. Write nothing.")
]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def pretrain(
    configuration: _Configuration = None,
    named: _Named = None,
    output: _Output = None,
    device: _Device = "auto",
    restart: _Restart = False,
    dry_run: _DryRun = False,
    json: _Json = False,
) -> None:
    """Pre-train an encoder on volumes without labels; the same command resumes.

    \b
    Example: neuroseg pretrain pretraining_fib25 -o runs/pretraining_fib25
    then: network.encoder: runs/pretraining_fib25 in the configuration of neuroseg train
    """
    from neuroseg.storage.publish import require_folder
    from neuroseg.training.pretrain import dry_run_pretraining
    from neuroseg.training.pretrain import pretrain as pretrain_

    path = asked(configuration, named)
    folder = output or Path("runs") / path.stem
    require_folder(folder)
    if dry_run:
        _show_dry_run(dry_run_pretraining(path, folder, device=device), folder, json)
        return
    _tell()
    made = pretrain_(path, folder, device=device, restart=restart)
    if not _leads():
        return
    if json:
        print_json({"encoder": str(made.encoder), "step": made.step, "error": made.error})
        return
    print(
        f"encoder {made.encoder} (step {made.step}): mean square error {made.error:.5f} on held-out crops\n"
        f"  next: neuroseg train CONFIG, with network.encoder: {folder}",
        file=sys.stderr,
    )


def train(
    context: typer.Context,
    configuration: _Configuration = None,
    named: _Named = None,
    output: _Output = None,
    bundle: Annotated[
        str | None,
        typer.Option("--from", metavar="MODEL", help="Begin with a bundled model, or a bundle's folder."),
    ] = None,
    device: _Device = "auto",
    restart: _Restart = False,
    dry_run: _DryRun = False,
    template: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--template", metavar="RAW LABELS", help="Write a configuration for this labelled volume to -o mine.yaml."
        ),
    ] = None,
    voxel_size: option.VoxelSize = None,
    preview: Annotated[
        bool,
        typer.Option(
            "--preview",
            help="Draw every perturbation on one sheet, -o F.png (default NAME-preview.png); train nothing.",
        ),
    ] = False,
    json: _Json = False,
) -> None:
    """Train a network on labelled volumes and export the best as a bundle; the same command resumes.

    With a section `consistency`, volumes without labels are learnt from as well.

    \b
    Examples: neuroseg train fib25_light -o runs/fib25_light
    then: neuroseg run volume.zarr --model runs/fib25_light/bundle
    neuroseg train mine.yaml --from fib25_light
    your own data: neuroseg train --template raw.zarr labels.zarr -o mine.yaml
    then: neuroseg train mine.yaml -o runs/mine
    """
    from neuroseg.storage.publish import require_folder
    from neuroseg.training.train import dry_run_training
    from neuroseg.training.train import train as train_

    if template is not None:
        if any((configuration, named, bundle, restart, dry_run, preview)):
            raise InputError("--template writes a configuration: give only RAW, LABELS, -o and --voxel-size with it")
        _write_template(template, output, voxel_size, json)
        return
    if voxel_size is not None:
        raise InputError("--voxel-size belongs to --template; a configuration has voxel_size_nm for each volume")
    path = asked(configuration, named)
    folder = output or Path("runs") / path.stem
    if preview and dry_run:
        raise InputError("--dry-run writes nothing, --preview a picture: give one of them")
    if preview and bundle is not None:
        raise InputError("--preview draws perturbations, which no model changes: leave out --from")
    if preview:
        _draw_preview(path, output or Path(f"{path.stem}-preview.png"))
        return
    require_folder(folder)
    if dry_run:
        _show_dry_run(dry_run_training(path, folder, bundle=bundle, device=device), folder, json)
        return
    _tell()
    outcome = train_(path, folder, bundle=bundle, device=device, restart=restart, command=typed_command(context))
    if not _leads():
        return
    _show_outcome(outcome, json)


def _write_template(template: tuple[str, str], output: Path | None, voxel_size: option.Triple | None, json: bool) -> None:
    from neuroseg.storage.publish import require_publishable
    from neuroseg.training.template import write_template

    if output is None:
        raise InputError("name the configuration to write: -o mine.yaml")
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
        f"at {best.threshold:g}\n  next: segment a volume with neuroseg run and --model {outcome.bundle}",
        file=sys.stderr,
    )


def _leads() -> bool:
    """Return whether this is the process that speaks, of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def _tell() -> None:
    """Training takes long before its first step; say what it is doing."""
    logging.getLogger("neuroseg").setLevel(logging.INFO if _leads() else logging.WARNING)


def _show_dry_run(found: dict[str, object], folder: Path, json: bool) -> None:
    from neuroseg.training.validation.dry_run import as_text

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
    print(f"{path}: every perturbation, raw and labels", file=sys.stderr)


def asked(configuration: str | None, named: str | None) -> Path:
    """Return the path of the configuration given as argument or by -c; raises InputError for neither or both.

    `-c=NAME`, as the published research code is called, means `-c NAME`.
    """
    as_option = None if named is None else named.removeprefix("=")
    given = [text for text in (configuration, as_option) if text is not None]
    if len(given) != 1:
        raise InputError(f"give one configuration, a YAML file or one of: {', '.join(_packaged())}")
    return configuration_path(given[0])


def configuration_path(text: str) -> Path:
    """Return the file at a path, or the packaged configuration of that name; raises InputError naming close ones."""
    if Path(text).is_file():
        return Path(text)
    packaged = _packaged()
    if text not in packaged:
        raise unknown_name("configuration (no such file either)", text, packaged)
    return packaged[text]


def _packaged() -> dict[str, Path]:
    folder = Path(str(resources.files("neuroseg.configs")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}

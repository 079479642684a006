"""The command `validate`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuroseg.cli import options as option
from neuroseg.cli import progress
from neuroseg.cli.command import INPUT, OUTPUT, PREDICTION, SEGMENTATION, WORKERS
from neuroseg.cli.summary import print_json
from neuroseg.cli.train import given_configuration
from neuroseg.configuration import validated
from neuroseg.errors import InputError

if TYPE_CHECKING:
    from neuroseg.checks.validate import Validation, ValidationVolume
    from neuroseg.training.data_settings import VolumeSettings
    from neuroseg.training.settings import TrainingSettings


_NO_LABEL = (0, 2**64 - 1)  # CREMI marks unlabelled voxels with the second; training ignores both
_SHOWN = (64, 512, 512)
_OTHER_SET = {"test": "validation", "validation": "test"}


def validate(
    configuration: Annotated[
        str | None, typer.Argument(metavar="CONFIG", help="Configuration the model was trained with.")
    ] = None,
    named: Annotated[
        str | None,
        typer.Option(
            "-c", "--configuration", metavar="CONFIG", help="Same as the argument CONFIG.", rich_help_panel=INPUT
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FOLDER",
            help="Bundled model or bundle folder.  [default: runs/CONFIG/bundle]",
            rich_help_panel=PREDICTION,
        ),
    ] = None,
    volume: Annotated[
        str | None,
        typer.Option(
            metavar="VOLUME",
            help="Score on this volume instead of the configuration's. CONFIG is then optional.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    truth: Annotated[
        str | None,
        typer.Option(
            metavar="LABELS",
            help="With --volume: ground-truth labels, zarr or file.h5:dataset.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    roi: Annotated[
        str | None,
        typer.Option(
            metavar="Z0:Z1,Y0:Y1,X0:X1",
            help="With --volume: score only this region, in voxels.  [default: whole volume]",
            rich_help_panel=INPUT,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FOLDER",
            help="Folder for results.json and pictures.  [default: runs/CONFIG/validation-test, or named after "
            "--volume]",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    voxel_size: Annotated[
        option.Triple | None,
        typer.Option(
            metavar="Z Y X",
            help="With --volume: voxel size in nm.  [default: the volume's metadata]",
            rich_help_panel=INPUT,
        ),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            metavar="SET",
            help="Data of the configuration to score on: test or validation.  [default: test]",
            rich_help_panel=INPUT,
        ),
    ] = None,
    threshold: Annotated[
        float, typer.Option(metavar="T", help="Threshold of both methods, 0 to 1.", rich_help_panel=SEGMENTATION)
    ] = 0.5,
    restart: Annotated[
        bool,
        typer.Option("--restart", help="Recompute existing results. Use it after you trained the model again."),
    ] = False,
    blocks: Annotated[
        str | None,
        typer.Option(
            metavar="N|Z,Y,X", help="Block size in voxels.  [default: whole sections]", rich_help_panel=WORKERS
        ),
    ] = None,
    workers: option.Workers = None,
    executor: option.ExecutorName = None,
    device: option.Device = None,
    json: option.Json = False,
) -> None:
    """Score a trained model with waterz and multicut.

    Use it to compare a model with published results. It predicts each volume once, segments it with waterz and with
    multicut, and writes scores, a picture and a threshold curve. Both methods depend on --blocks; by default no
    section is cut. To resume, run the same command again.

    \b
    Examples:
      neuroseg validate seg_snemi3d_d5_u200
      neuroseg validate fib25_light --model fib25_light --on validation -o validated
      neuroseg validate --model runs/mine/bundle --volume raw.zarr --truth labels.h5:ids
    """
    from neuroseg.checks.validate import validate_all
    from neuroseg.networks.bundle import open_bundle
    from neuroseg.storage.publish import publish_text, require_folder
    from neuroseg.training.relative_paths import located

    path, settings = _configured(configuration, named, model, is_optional=volume is not None)
    name = path.stem if path else ""
    bundle = open_bundle(model or str(Path("runs") / name / "bundle"))
    if volume is None:
        if truth or roi or voxel_size:
            raise InputError(
                "--truth, --roi and --voxel-size belong to a --volume",
                hint="add --volume, or leave them out to use the volumes of the configuration",
            )
        assert path is not None, "only --volume works without a configuration"
        assert settings is not None
        where, volumes = _of_configuration(located(settings, path), on or "test")
    else:
        if on is not None:
            raise InputError("--on chooses volumes of the configuration", hint="leave out --on or --volume")
        where, volumes = _one_volume(volume, truth, roi, voxel_size, bundle.sha256)
    folder = output or Path("runs") / (name or bundle.card.name) / f"validation-{where}"
    require_folder(folder)
    given = {"blocks": blocks, "workers": workers, "executor": executor, "device": device, "threshold": threshold}
    chosen = {key: value for key, value in given.items() if value is not None}

    def validate_one(number: int, volume: ValidationVolume) -> dict[str, Any]:
        return _validated(volume, str(bundle.path), folder / str(number), chosen, restart)

    rows, means = validate_all(volumes, validate_one)
    trained = bundle.card.training
    content = {
        "configuration": name or trained.configuration or None,
        "settings": settings and settings.model_dump(mode="json"),
        "seed": settings.seed if settings else trained.seed,
        "model": str(bundle.path),
        "sha256": bundle.sha256,
        "on": on or ("test" if volume is None else "volume"),
        "threshold": threshold,
        "mean": means,
        "volumes": rows,
    }
    publish_text(folder / "results.json", _as_text(content))
    if json:
        print_json(content)
    else:
        _show(rows, means, folder)


def _configured(
    configuration: str | None, named: str | None, model: str | None, *, is_optional: bool
) -> tuple[Path | None, TrainingSettings | None]:
    """Return the path of the configuration and its content; (None, None) if it is optional and not given."""
    from neuroseg.training.reading import read_settings
    from neuroseg.training.settings import TrainingSettings

    if is_optional and configuration is None and named is None:
        if model is None:
            raise InputError("no model given", hint="use --model, or name a configuration that was trained")
        return None, None
    path = given_configuration(configuration, named)
    return path, read_settings(path, TrainingSettings)


def _of_configuration(settings: TrainingSettings, on: str) -> tuple[str, list[ValidationVolume]]:
    """Return the name of the data, `test` or `validation`, and the volumes of the configuration."""
    if on not in _OTHER_SET:
        raise InputError(f"--on {on!r} is neither test nor validation")
    volumes = settings.data.test if on == "test" else tuple(filter(None, [settings.data.validation]))
    if not volumes:
        raise InputError(
            f"{settings.name} names no data.{on}", hint=f"add it to the configuration, or use --on {_OTHER_SET[on]}"
        )
    return on, [_opened(volume, settings.data.folders) for volume in volumes]


def _one_volume(
    volume: str, truth: str | None, roi: str | None, voxel_size: option.Triple | None, model: str
) -> tuple[str, list[ValidationVolume]]:
    """Return a folder name for one volume, truth, region and model, and the volume with its truth."""
    import hashlib

    from neuroseg.storage.naming import default_workspace
    from neuroseg.training.data_settings import VolumeSettings

    if truth is None:
        raise InputError("--volume needs --truth, the ground-truth labels", hint="add --truth LABELS")
    content = {"raw": volume, "labels": truth, "region": roi, "voxel_size_nm": voxel_size}
    settings = validated(content, VolumeSettings, "--volume")
    digest = hashlib.sha256(f"{volume} {truth} {roi} {model}".encode()).hexdigest()[:8]
    return f"{default_workspace(volume).stem}-{digest}", [_opened(settings, (".",))]


def _opened(volume: VolumeSettings, folders: Sequence[str]) -> ValidationVolume:
    from neuroseg.checks.validate import ValidationVolume
    from neuroseg.geometry import describe
    from neuroseg.training.data.labelled import open_labelled

    opened = open_labelled(volume, folders)
    return ValidationVolume(opened.raw.path, opened.labels.path, describe(opened.region), opened.voxel_size_nm)


def _validated(
    volume: ValidationVolume, model: str, folder: Path, given: dict[str, Any], restart: bool
) -> dict[str, Any]:
    """Predict, segment, score and draw one volume."""
    from neuroseg.checks.score import Request, score
    from neuroseg.checks.validate import validate_on

    made = validate_on(volume, model, folder, given, restart=restart, begin=progress.begin)
    scores = {}
    for way, workspace in made.segmented.items():
        curve = folder / f"{way}.png" if way == "waterz" else None
        request = Request(str(workspace.path), volume.labels, volume.roi, way == "waterz", _NO_LABEL, plot=curve)
        scores[way] = score(request, progress.voxels_done)
    _draw(volume, made, folder / "segmentations.png")
    return {"raw": volume.raw, "labels": volume.labels, "roi": volume.roi, "blocks": made.blocks, "scores": scores}


def _draw(volume: ValidationVolume, made: Validation, path: Path) -> None:
    """Draw the middle of the region, at most _SHOWN voxels: raw, affinities, segmentations and truth."""
    import numpy as np
    from funlib.geometry import Coordinate

    from neuroseg.geometry import parse_roi, slices
    from neuroseg.storage.arrays import open_array
    from neuroseg.views.figure import segmentation_figure
    from neuroseg.volumes.addresses import open_any

    raw = open_any(volume.raw, voxel_size_nm=volume.voxel_size_nm)
    whole = parse_roi(volume.roi, raw.shape)
    margins = [max(0, size - shown) // 2 for size, shown in zip(whole.shape, _SHOWN, strict=True)]
    roi = whole.grow(-Coordinate(margins), -Coordinate(margins))
    labels = {
        way: np.asarray(open_array(where.segmentation / "0")[slices(roi)]) for way, where in made.segmented.items()
    }
    truth = open_any(volume.labels, voxel_size_nm=volume.voxel_size_nm)
    if truth.shape == raw.shape:
        labels["truth"] = truth.read(roi)
    segmentation_figure(
        path,
        raw=raw.read(roi),
        affinities=np.asarray(open_array(made.predicted.affinities)[(slice(None), *slices(roi))]),
        labels=labels,
        voxel_size_nm=volume.voxel_size_nm,
    )


def _show(rows: list[dict[str, Any]], means: dict[str, dict[str, float]], folder: Path) -> None:
    print(f"{'':28} {'method':>8} {'split':>7} {'merge':>7} {'sum':>7} {'ARAND':>7}")
    named = [(Path(row["raw"]).name + " " + row["roi"], row["scores"]) for row in rows]
    for name, scores in [*named, *([("mean", means)] if len(rows) > 1 else [])]:
        for way, found in scores.items():
            numbers = " ".join(f"{found[key]:7.3f}" for key in ("voi_split", "voi_merge", "voi_sum", "arand"))
            print(f"{name[:28]:28} {way:>8} {numbers}")
        if "sweep" in scores.get("waterz", {}):
            best = min(scores["waterz"]["sweep"], key=lambda row: row["voi_sum"])
            print(f"{'':28} {'waterz':>8} VOI sum {best['voi_sum']:.3f} at the best threshold, {best['threshold']:g}")
    print(f"{folder}: results.json and pictures of each volume", file=sys.stderr)


def _as_text(content: dict[str, Any]) -> str:
    import json

    return json.dumps(content, indent=2) + "\n"

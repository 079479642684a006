"""The command `validate`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuroseg.cli import progress, run
from neuroseg.cli.summary import print_json
from neuroseg.cli.train import asked
from neuroseg.configuration import validated
from neuroseg.errors import InputError

if TYPE_CHECKING:
    from neuroseg.checks.validate import Validation, ValidationVolume
    from neuroseg.training.settings import TrainingSettings, VolumeSettings


_NO_LABEL = (0, 2**64 - 1)  # the second as CREMI has it, and as training takes it
_SHOWN = (64, 512, 512)
OTHER = {"test": "validation", "validation": "test"}


def validate(
    configuration: Annotated[
        str | None, typer.Argument(metavar="CONFIG", help="The configuration that the model was trained with.")
    ] = None,
    named: Annotated[
        str | None, typer.Option("-c", "--configuration", metavar="CONFIG", help="The same as an option.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="A bundle (default: that of runs/CONFIG).")] = None,
    volume: Annotated[
        str | None,
        typer.Option(help="Judge on this volume instead of the configuration's, which may then be left out."),
    ] = None,
    truth: Annotated[str | None, typer.Option(help="Its labels: zarr or file.h5:dataset.")] = None,
    roi: Annotated[str | None, typer.Option(help="Its part that counts, z0:z1,y0:y1,x0:x1.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder (default runs/CONFIG/validation-ON, of a volume below runs)."),
    ] = None,
    voxel_size: run.VoxelSize = None,
    on: Annotated[
        str | None, typer.Option(help="test (data.test of the configuration, the default) or validation.")
    ] = None,
    threshold: Annotated[float, typer.Option(help="Of both ways to segment.")] = 0.5,
    restart: Annotated[
        bool, typer.Option("--restart", help="Make again what is there, for example after another training.")
    ] = False,
    blocks: run.Blocks = None,
    workers: run.Workers = None,
    executor: run.ExecutorName = None,
    device: run.Device = None,
    json: run.Json = False,
) -> None:
    """Judge a trained model as published: one prediction, segmented by waterz and by multicut, scored side by side.

    Writes results.json (the whole configuration, seed, hash of the model, scores, every threshold of waterz; without
    CONFIG its name and the seed are those of the model's card), a picture and the threshold curve of each volume. The
    same command resumes. Both ways cut fragments where a block ends; unless --blocks says otherwise, no section is cut.

    \b
    Examples: neuroseg validate seg_snemi3d_d5_u200
    neuroseg validate fib25_light --model fib25_light --on validation -o validated
    neuroseg validate --model runs/mine/bundle --volume raw.zarr --truth labels.h5:ids --roi 0:20,:,: -o validated
    """
    from neuroseg.checks.validate import in_turn
    from neuroseg.networks.bundle import open_bundle
    from neuroseg.storage.publish import publish_text, require_folder
    from neuroseg.training.relative_paths import located

    path, settings = _configured(configuration, named, model, is_optional=volume is not None)
    name = path.stem if path else ""
    bundle = open_bundle(model or str(Path("runs") / name / "bundle"))
    if volume is None:
        if truth or roi or voxel_size:
            raise InputError("--truth, --roi and --voxel-size belong to a --volume; the configuration says what counts")
        assert path is not None, "without a volume there is a configuration"
        assert settings is not None
        where, volumes = _of_configuration(located(settings, path), on or "test")
    else:
        if on is not None:
            raise InputError("--on names volumes of the configuration; leave it out with --volume")
        where, volumes = _one_volume(volume, truth, roi, voxel_size, bundle.sha256)
    folder = output or Path("runs") / (name or bundle.card.name) / f"validation-{where}"
    require_folder(folder)
    given = {"blocks": blocks, "workers": workers, "executor": executor, "device": device, "threshold": threshold}
    chosen = {key: value for key, value in given.items() if value is not None}

    def validated(number: int, volume: ValidationVolume) -> dict[str, Any]:
        return _validated(volume, str(bundle.path), folder / str(number), chosen, restart)

    rows, means = in_turn(volumes, validated)
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
    """Return the configuration and its path; None where none is given and none is needed."""
    from neuroseg.training.reading import read_settings
    from neuroseg.training.settings import TrainingSettings

    if is_optional and configuration is None and named is None:
        if model is None:
            raise InputError("which model shall be validated? Give --model, or a configuration that was trained")
        return None, None
    path = asked(configuration, named)
    return path, read_settings(path, TrainingSettings)


def _of_configuration(settings: TrainingSettings, on: str) -> tuple[str, list[ValidationVolume]]:
    """Return what the configuration judges on, and its volumes."""
    if on not in OTHER:
        raise InputError(f"--on {on!r} is neither test nor validation")
    volumes = settings.data.test if on == "test" else tuple(filter(None, [settings.data.validation]))
    if not volumes:
        raise InputError(f"{settings.name} names no data.{on}; add it, or --on {OTHER[on]}")
    return on, [_opened(volume, settings.data.folders) for volume in volumes]


def _one_volume(
    volume: str, truth: str | None, roi: str | None, voxel_size: run.Triple | None, model: str
) -> tuple[str, list[ValidationVolume]]:
    """Return a name for one volume that one model is validated on, and the volume with its truth."""
    import hashlib

    from neuroseg.storage.naming import default_workspace
    from neuroseg.training.settings import VolumeSettings

    if truth is None:
        raise InputError("--volume needs --truth, the labels to judge by")
    content = {"raw": volume, "labels": truth, "region": roi, "voxel_size_nm": voxel_size}
    asked_for = validated(content, VolumeSettings, "--volume")
    told_apart = hashlib.sha256(f"{volume} {truth} {roi} {model}".encode()).hexdigest()[:8]
    return f"{default_workspace(volume).stem}-{told_apart}", [_opened(asked_for, (".",))]


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
    """Draw the middle of the region, no more of it than a picture shows: raw, affinities, segmentations, truth."""
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
    print(f"{'':28} {'way':>8} {'split':>7} {'merge':>7} {'sum':>7} {'ARAND':>7}")
    named = [(Path(row["raw"]).name + " " + row["roi"], row["scores"]) for row in rows]
    for name, scores in [*named, *([("mean", means)] if len(rows) > 1 else [])]:
        for way, found in scores.items():
            numbers = " ".join(f"{found[key]:7.3f}" for key in ("voi_split", "voi_merge", "voi_sum", "arand"))
            print(f"{name[:28]:28} {way:>8} {numbers}")
        if "sweep" in scores.get("waterz", {}):
            best = min(scores["waterz"]["sweep"], key=lambda row: row["voi_sum"])
            print(f"{'':28} {'waterz':>8} {best['voi_sum']:.3f} at its best threshold, {best['threshold']:g}")
    print(f"{folder}: results.json, and pictures of each volume", file=sys.stderr)


def _as_text(content: dict[str, Any]) -> str:
    import json

    return json.dumps(content, indent=2) + "\n"

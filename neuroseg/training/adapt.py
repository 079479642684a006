"""The command `adapt`: a bundle and a volume with few or no labels -> a bundle that fits the volume better.

Runs consistency learning from the bundle's weights, with their average as teacher. A quarter of the data is held out:
a quarter of the labelled sections, or of the volume. The new bundle is kept only if it is better there: by its scores
against the labels, or by the agreement of its predictions for perturbed copies of the same crops.
"""

from __future__ import annotations

import logging
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from funlib.geometry import Coordinate, Roi

from neuroseg.affinities.device import choose_device
from neuroseg.affinities.inference import make_repeatable
from neuroseg.configuration import validated
from neuroseg.errors import InputError
from neuroseg.geometry import Triple, describe, triple
from neuroseg.networks.bundle import open_bundle, save_bundle
from neuroseg.networks.card import Card, SegmentationCard
from neuroseg.networks.windows import WindowRule
from neuroseg.training.data.labelled import OpenedVolume, open_labelled
from neuroseg.training.data.unlabelled import Crops, Pairs, Region
from neuroseg.training.data_settings import VolumeSettings
from neuroseg.training.folder import prepare_folder
from neuroseg.training.judging.agreement import PERTURBATIONS, Agreement, agreement, agrees_better
from neuroseg.training.judging.validate_network import validate
from neuroseg.training.learning.loop import is_over, run_training
from neuroseg.training.learning.precision import warn_if_emulated
from neuroseg.training.learning.processes import ProcessGroup
from neuroseg.training.learning.statistics import with_recomputed_statistics
from neuroseg.training.learning.trainer import Trainer
from neuroseg.training.perturbations.appearance import Float
from neuroseg.training.settings import Precision, TrainingSettings
from neuroseg.training.train import check_gradients, labelled_samples
from neuroseg.volumes.addresses import open_any
from neuroseg.volumes.volume import Volume, require_voxel_size

logger = logging.getLogger(__name__)
_HELD_OUT_PART = 4  # one quarter is held out
_CROPS, _LEAST_CROPS = 8, 3
_LARGEST_RATIO = 3.0


@dataclass(frozen=True)
class Request:
    """The model to adapt, the volume to adapt it to, and the settings.

    `labels`: address of the labels, if there are any. `region`: the part of them to use; None means all.
    """

    volume: str
    model: str
    labels: str | None = None
    region: str | None = None
    level: int = 0
    steps: int = 300
    learning_rate: float = 2e-4
    seed: int = 1
    precision: Precision = "bfloat16"


@dataclass(frozen=True)
class Adapted:
    """The scores of both models on held-out data, and the bundle (None if it was not better).

    Lower is better: `voi` in bits with labels, `disagreement` in [0, 1] without.
    """

    measure: str
    before: dict[str, Any]
    after: dict[str, Any]
    bundle: Path | None


def adapt(
    request: Request,
    folder: Path,
    *,
    device: str = "auto",
    restart: bool = False,
    progress: bool = True,
    command: str = "",
) -> Adapted:
    """Adapt a bundle to a volume, score it, and keep it in `folder/bundle` if it is better.

    Resumes an unfinished adaptation in `folder`. `command`: the command line for the card, "" if there is none.

    Raises InputError if the volume does not fit the model or if this CPU computes wrong gradients. Raises
    RunRefusedError if the folder belongs to another request.
    """
    bundle, chosen = open_bundle(request.model), choose_device(device)
    card = bundle.card
    raw = open_any(request.volume, level=request.level)
    _check(raw, card)
    labelled = None if request.labels is None else open_labelled(_labelled_settings(request), ["."])
    settings = settings_of(request, card, bundle.sha256, bundle.network().windows)  # type: ignore[arg-type]
    _check_room(raw, settings)
    if folder.resolve() in bundle.path.resolve().parents:
        raise InputError(
            f"the model {bundle.path} is inside the output folder {folder}, which is emptied first",
            hint="choose another folder with -o",
        )
    make_repeatable(chosen)
    warn_if_emulated(chosen, request.precision)
    trainer = Trainer(settings, folder, chosen, ProcessGroup())
    trainer.begin_with(bundle.network().state_dict())
    if restart or not (folder / "checkpoint.pt").exists():
        check_gradients(settings, chosen)
    prepare_folder(folder, settings, restart)
    if (folder / "checkpoint.pt").exists():
        trainer.load()
        if not is_over(trainer):
            check_gradients(settings, chosen)  # the machine and the number of threads can differ
    score = _score_by_labels if labelled is not None else _score_by_agreement
    before = score(bundle.network().to(chosen), settings, card, raw, labelled, request)
    if not is_over(trainer):
        samples = _samples(settings, raw, labelled, request, trainer.step)
        run_training(trainer, samples, lambda step: {}, progress=progress)
    crops = _samples(settings, raw, labelled, request, 0)
    count = min(settings.validation.statistics_samples, len(crops))
    tuned = with_recomputed_statistics(
        trainer.average.network, crops, "clean", count=count, batch=settings.optimiser.batch, device=chosen
    )
    after = score(tuned, settings, card, raw, labelled, request)
    by_labels = labelled is not None
    better = after["voi"] < before["voi"]
    if not by_labels:
        one, other = Agreement(**before), Agreement(**after)
        better = agrees_better(one, other)
        before["disagreement"] = one.disagreement
        after |= {"disagreement": other.disagreement, "better_crops": other.better_crops(one)}
    measure = "labels" if by_labels else "agreement of perturbed copies"
    kept = _keep(folder / "bundle", tuned, card, request, before, after, command) if better else None
    return Adapted(measure, before, after, kept)


def settings_of(request: Request, card: Card, identity: str, rule: WindowRule) -> TrainingSettings:
    """Return the training settings for a bundle: its network, offsets and windows, with consistency learning."""
    output, context = card.tile.output_voxels, card.tile.context_voxels
    patch = output if rule.allows(output) else triple([o + 2 * c for o, c in zip(output, context, strict=True)])
    isotropic = max(card.voxel_size_nm) < 1.5 * min(card.voxel_size_nm)
    network = {key: value for key, value in card.network.parameters.items() if key != "outputs"}
    perturbations = (*PERTURBATIONS, "cutout") if isotropic else (*PERTURBATIONS, "cutout", "misalign")
    return TrainingSettings.model_validate(
        {
            "name": f"{card.name}_adapted",
            # Identifies the request that the folder belongs to.
            "description": f"from {identity[:16]} to {request.volume}, labels {request.labels} {request.region or ''}",
            "seed": request.seed,
            "data": {"unlabelled": [{"raw": request.volume, "level": request.level}]},
            "network": {"architecture": card.network.architecture, "parameters": network},
            "targets": {"offsets": card.offsets, "border_axes": (0, 1, 2) if isotropic else (1, 2)},
            "augmentation": {
                "orientations": "all" if isotropic and len(set(patch)) == 1 else "in_plane",
                # A deformed patch can miss the few labelled sections.
                "deform": 0.0,
            },
            "consistency": {"teacher": "ema", "perturbations": {"names": perturbations}},
            "optimiser": {
                "steps": request.steps,
                "patch_voxels": patch,
                "margin_voxels": rule.margin,
                "learning_rate": request.learning_rate,
                "warm_up_steps": min(50, request.steps // 4),
                "average_decay": 0.99,
                "precision": request.precision,
            },
            "validation": {
                "every_steps": request.steps,
                "surround_voxels": (output[0] // 2, 0, 0),
                "scorings": [card.segmentation.scoring],
                "tile_voxels": output,
                "context_voxels": context,
                "blend": card.tile.blend,
            },
        }
    )


def _training_data(request: Request) -> str:
    labelled = f", labels {request.labels} [{request.region or 'all'}]" if request.labels else " without labels"
    return f"{request.volume}{labelled}"


def _check(raw: Volume, card: Card) -> None:
    if raw.dtype != np.uint8:
        raise InputError(
            f"raw {raw.path} contains {raw.dtype} values, expected uint8", hint="convert it with neuroseg import"
        )
    ratios = [max(a / b, b / a) for a, b in zip(require_voxel_size(raw), card.voxel_size_nm, strict=True)]
    if max(ratios) > _LARGEST_RATIO:
        raise InputError(
            f"model {card.name} was trained with voxels of {card.voxel_size_nm} nm, {raw.path} has voxels of "
            f"{raw.voxel_size_nm} nm",
            hint="choose a pyramid level with --level, or another model with --model",
        )


def _check_room(raw: Volume, settings: TrainingSettings) -> None:
    training, _ = _split(raw.roi, _longest(raw.roi))
    patch = settings.optimiser.patch_voxels
    if any(size < width for size, width in zip(training.shape, patch, strict=True)):
        raise InputError(
            f"{raw.path} has {raw.shape} voxels, of which {tuple(training.shape)} are used for training: too few for "
            f"the model's patches of {patch}"
        )


def _labelled_settings(request: Request) -> VolumeSettings:
    if request.level:
        raise InputError(
            f"--labels works only with the finest level (0), found --level {request.level}",
            hint="import that level to a volume of its own, then use it without --level",
        )
    content = {"raw": request.volume, "labels": request.labels, "region": request.region}
    return validated(content, VolumeSettings, "--labels")


def _samples(
    settings: TrainingSettings, raw: Volume, labelled: OpenedVolume | None, request: Request, step: int
) -> Pairs:
    """Return the samples from a step on: crops of the volume, with labelled samples if there are labels."""
    assert settings.consistency is not None
    optimiser = settings.optimiser
    start, count = step * optimiser.batch, optimiser.steps * optimiser.batch
    unlabelled, _ = _split(raw.roi, _longest(raw.roi))
    crops = Crops(
        [Region(request.volume, unlabelled, request.level)], optimiser.patch_voxels, settings.augmentation.orientations
    )
    if labelled is None:
        return Pairs(None, crops, settings.consistency.perturbations, seed=request.seed, start=start, count=count)
    region, _ = _split(labelled.region, 0)
    # Patches deeper than the labelled sections show the raw around them. Otherwise the sections would be mirrored.
    around = [max(0, width - size) for width, size in zip(optimiser.patch_voxels, region.shape, strict=True)]
    used = replace(labelled, region=region, surround=triple(around))
    samples = labelled_samples([used], settings, start, count)
    return Pairs(samples, crops, settings.consistency.perturbations, seed=request.seed, start=start)


def _score_by_labels(
    network: torch.nn.Module, settings: TrainingSettings, card: Card, raw: Volume, labelled: OpenedVolume | None,
    request: Request,
) -> dict[str, Any]:  # fmt: skip
    """Return the best VOI of a threshold sweep on the held-out labelled sections, and its threshold."""
    assert labelled is not None
    _, held_out = _split(labelled.region, 0)
    best = validate(network, replace(labelled, region=held_out), settings, next(network.parameters()).device).choices[0]
    return {"voi": best.scores.voi_sum, "threshold": best.threshold}


def _score_by_agreement(
    network: torch.nn.Module, settings: TrainingSettings, card: Card, raw: Volume, labelled: OpenedVolume | None,
    request: Request,
) -> dict[str, Any]:  # fmt: skip
    """Return the agreement between segmentations of perturbed copies of held-out crops, and their entropy."""
    crops = held_out_crops(raw, card.tile.output_voxels, request.seed)
    return asdict(agreement(network, card, crops, next(network.parameters()).device, request.seed))


def held_out_crops(raw: Volume, shape: Triple, seed: int) -> list[Float]:
    """Return crops `(z, y, x)` in [0, 1] of the held-out part of a volume. They do not overlap.

    Returns up to 8 crops of `shape`. If fewer than 3 fit, the crops are smaller.
    """
    _, held_out = _split(raw.roi, _longest(raw.roi))
    rng = np.random.default_rng([seed, 3])
    counts = [max(1, length // width) for width, length in zip(shape, held_out.shape, strict=True)]
    while math.prod(counts) < _LEAST_CROPS:
        counts[int(np.argmax(np.array(held_out.shape) / counts))] += 1
    cell = [length // count for length, count in zip(held_out.shape, counts, strict=True)]
    size = [min(width, length) for width, length in zip(shape, cell, strict=True)]
    crops = []
    for chosen in sorted(rng.permutation(math.prod(counts))[:_CROPS]):
        place = np.array(np.unravel_index(chosen, counts)) * cell
        begin = [b + int(p) for b, p in zip(held_out.begin, place, strict=True)]
        crops.append(raw.read(Roi(begin, size)).astype(np.float32) / np.float32(255))
    return crops


def _split(roi: Roi, axis: int) -> tuple[Roi, Roi]:
    """Return the first three quarters of a region along an axis, and the rest. Each has at least one voxel."""
    length = roi.shape[axis]
    if length < 2:
        raise InputError(f"the region {describe(roi)} is too small to hold out a part of it")
    rest = max(1, length // _HELD_OUT_PART)
    step = Coordinate([length - rest if each == axis else 0 for each in range(3)])
    shape = [rest if each == axis else size for each, size in enumerate(roi.shape)]
    first = [length - rest if each == axis else size for each, size in enumerate(roi.shape)]
    return Roi(roi.begin, first), Roi(roi.begin + step, shape)


def _longest(roi: Roi) -> int:
    return int(np.argmax(roi.shape))


def _keep(
    folder: Path, tuned: torch.nn.Module, card: Card, request: Request, before: dict[str, Any], after: dict[str, Any],
    command: str,
) -> Path:  # fmt: skip
    """Write the adapted bundle. Its card contains its origin and its scores."""
    threshold = after.get("threshold", card.segmentation.threshold)
    made = card.model_copy(
        update={
            "name": f"{card.name}_adapted",
            "description": f"{card.name}, tuned to {Path(request.volume).name}.",
            "segmentation": SegmentationCard(scoring=card.segmentation.scoring, threshold=threshold),
            "training": card.training.model_copy(
                update={"command": command, "data": f"{card.training.data}; {_training_data(request)}"}
            ),
            "scores": {"before": before, "after": after},
        }
    )
    save_bundle(folder, made, tuned.state_dict())
    return folder

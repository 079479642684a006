"""The command `train`: configuration -> data -> training loop -> best bundle."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from neuroseg.affinities.device import choose_device
from neuroseg.affinities.inference import make_repeatable
from neuroseg.configuration import read_yaml
from neuroseg.errors import InputError
from neuroseg.geometry import contact_channels
from neuroseg.networks.architectures import build_network, parameter_count
from neuroseg.networks.bundle import CARD, WEIGHTS
from neuroseg.networks.orientations import orientations
from neuroseg.networks.windows import WindowRule, checked_margin
from neuroseg.storage.publish import publish_text
from neuroseg.training.data.labelled import OpenedVolume, open_labelled, read_labelled
from neuroseg.training.data.samples import Samples
from neuroseg.training.data.unlabelled import Crops, Pairs, Region, open_unlabelled
from neuroseg.training.folder import prepare_folder
from neuroseg.training.judging.context_effect import context_effect
from neuroseg.training.judging.dry_run import dry_run, held_bytes, small_part
from neuroseg.training.judging.duration import Clock, validation_seconds
from neuroseg.training.judging.export import Origin, export_bundle
from neuroseg.training.judging.validate_network import Choice, validate
from neuroseg.training.learning.gradients import require_correct_gradients
from neuroseg.training.learning.initial_weights import (
    load_initial_weights,
    read_origin,
    with_initial_bundle,
    write_origin,
)
from neuroseg.training.learning.loop import is_over, run_training
from neuroseg.training.learning.precision import warn_if_emulated
from neuroseg.training.learning.processes import ProcessGroup, local_device, process_group
from neuroseg.training.learning.statistics import with_recomputed_statistics
from neuroseg.training.learning.trainer import Trainer, output_channels
from neuroseg.training.reading import read_settings
from neuroseg.training.relative_paths import located
from neuroseg.training.settings import TargetSettings, TrainingOptimiserSettings, TrainingSettings

logger = logging.getLogger(__name__)
_BEST_KEYS = {"step", "scoring", "threshold", "voi_split", "voi_merge", "voi_sum", "arand"}


@dataclass(frozen=True)
class Outcome:
    """Path of the best bundle, its step and its scores."""

    bundle: Path
    step: int
    best: Choice


@dataclass(frozen=True)
class Opened:
    """A configuration with its data opened. Nothing is read or written yet.

    `settings`: paths as written. `seen`: paths relative to the current folder.
    """

    settings: TrainingSettings
    seen: TrainingSettings
    training: list[OpenedVolume]
    unlabelled: list[Region]
    validation: OpenedVolume


def open_training(configuration: Path, bundle: str | None = None) -> Opened:
    """Return a configuration with its data opened. `bundle` sets the initial weights of the network.

    Raises InputError for a wrong configuration and for missing data.
    """
    settings = read_settings(configuration, TrainingSettings)
    seen = located(settings, configuration)
    if bundle is not None:
        settings, seen = with_initial_bundle(settings, seen, bundle)
    if not settings.data.training or settings.data.validation is None:
        raise InputError(f"{configuration}: data.training or data.validation is missing; both are required")
    check_windows(settings)
    folders = seen.data.folders
    return Opened(
        settings,
        seen,
        [open_labelled(volume, folders) for volume in settings.data.training],
        open_unlabelled(settings.data.unlabelled, folders, settings.optimiser.patch_voxels),
        open_labelled(settings.data.validation, folders),
    )


def train(
    configuration: Path,
    folder: Path,
    *,
    bundle: str | None = None,
    device: str = "auto",
    restart: bool = False,
    progress: bool = True,
    command: str = "",
) -> Outcome:
    """Train to the last step and return the best bundle. Resumes an unfinished training in `folder`.

    `bundle`: a bundled model's name or a bundle's folder as initial weights (`network.bundle`). `command`: the command
    line for the card, "" if there is none.

    Raises InputError for a wrong configuration, missing data, or a CPU that computes wrong gradients. Raises
    RunRefusedError if the folder contains a training of another configuration.
    """
    with process_group() as group:
        opened, chosen = open_training(configuration, bundle), choose_device(local_device(device))
        settings = opened.settings
        make_repeatable(chosen)
        trainer = Trainer(settings, folder, chosen, group)
        is_new = restart or not (folder / "checkpoint.pt").exists()
        if is_new:
            load_initial_weights(trainer, opened.seen.network, opened.training[0].voxel_size_nm)
            check_gradients(settings, chosen)
        # Prepare or empty the folder only after all checks.
        if group.is_first:
            prepare_folder(folder, settings, restart)
            if is_new:
                write_origin(folder, opened.seen.network)
        group.wait()
        logger.info("%s: %d parameters on %s", settings.name, parameter_count(trainer.network), chosen)
        warn_if_emulated(chosen, settings.optimiser.precision)
        if (folder / "checkpoint.pt").exists():
            trainer.load()
            if not is_over(trainer):
                check_gradients(settings, chosen)  # the machine and the number of threads can differ
        origin = Origin(configuration.stem, command)
        best = _BestBundle(folder, settings, opened.validation, chosen, origin, progress)

        if not is_over(trainer):
            logger.info("reading the training volumes and computing their shape descriptors (1 minute per 10 Mvoxel)")
            labelled, samples = samples_of(opened, trainer.step, group.size)
            count = settings.validation.statistics_samples

            def validate_step(step: int) -> dict[str, float]:
                own = with_recomputed_statistics(
                    trainer.network_to_validate(), labelled.first(count), "raw",
                    count=count, batch=settings.optimiser.batch, device=chosen,
                )  # fmt: skip
                return best(own, step)

            run_training(trainer, samples, validate_step, progress=progress)
        return best.outcome()


def dry_run_training(
    configuration: Path,
    folder: Path,
    *,
    bundle: str | None = None,
    device: str = "auto",
    clock: Clock = time.monotonic,
) -> dict[str, Any]:
    """Check a configuration and its data, take a few steps, and return expected time and memory. Write nothing."""
    opened = open_training(configuration, bundle)
    data, described = opened.seen.data, opened.settings.targets.descriptor_sigma_nm > 0
    for volume in data.test:
        open_labelled(volume, data.folders)  # find missing test data before the training
    patch = opened.settings.optimiser.patch_voxels
    small = replace(opened, training=[small_part(volume, patch) for volume in opened.training])
    trainer = Trainer(opened.settings, folder, choose_device(device), ProcessGroup())
    load_initial_weights(trainer, opened.seen.network, opened.training[0].voxel_size_nm)
    check_gradients(opened.settings, trainer.device)
    whole, part = (sum(held_bytes(v, described) for v in some.training) for some in (opened, small))
    labelled, samples = samples_of(small, 0, 1)

    def time_validation(clock: Clock) -> dict[str, float]:
        return validation_seconds(
            trainer.network_to_validate(), labelled, opened.validation, opened.settings, trainer.device, clock
        )

    return dry_run(trainer, samples, time_validation, unread_bytes=whole - part, clock=clock)


def check_windows(settings: TrainingSettings) -> None:
    """Raise InputError for patches, margins, windows or offsets that the network or the segmentation cannot use.

    Otherwise the training would fail at its first step or its first validation.
    """
    network, wanted, optimiser = settings.network, settings.validation, settings.optimiser
    _check_offsets(settings.targets, optimiser)
    with torch.device("meta"):
        rule = build_network(network.architecture, network.parameters).windows
    assert isinstance(rule, WindowRule)
    if not rule.allows(optimiser.patch_voxels):
        raise InputError(
            f"the network does not accept optimiser.patch_voxels {optimiser.patch_voxels}; expected {rule}"
        )
    if any(margin < lost for margin, lost in zip(optimiser.margin_voxels, rule.margin, strict=True)):
        raise InputError(
            f"optimiser.margin_voxels {optimiser.margin_voxels} are too small: the network loses {rule.margin} voxels"
        )
    checked_margin(rule, wanted.tile_voxels, wanted.context_voxels, wanted.blend)


def check_gradients(settings: TrainingSettings, device: torch.device) -> None:
    """Raise InputError if this CPU computes wrong gradients for this training."""
    network, optimiser, consistency = settings.network, settings.optimiser, settings.consistency
    together = 2 if consistency is not None and consistency.published else 1
    require_correct_gradients(
        network.architecture,
        {**network.parameters, "outputs": output_channels(settings)},
        batch=together * optimiser.batch,
        patch_voxels=optimiser.patch_voxels,
        device=device,
        precision=optimiser.precision,
    )


def _check_offsets(targets: TargetSettings, optimiser: TrainingOptimiserSettings) -> None:
    try:
        contact_channels(targets.offsets)
    except InputError as error:
        raise InputError(f"targets.offsets cannot be segmented: {error.args[0]}", hint=error.hint) from error
    reach = [width - margin for width, margin in zip(optimiser.patch_voxels, optimiser.margin_voxels, strict=True)]
    for name in ("offsets", "auxiliary_offsets"):
        for offset in getattr(targets, name):
            if any(abs(step) >= width for step, width in zip(offset, reach, strict=True)):
                raise InputError(
                    f"targets.{name} {offset} does not fit into optimiser.patch_voxels {optimiser.patch_voxels} minus "
                    f"margin_voxels {optimiser.margin_voxels}",
                    hint="use a shorter offset or larger patches",
                )


def samples_of(opened: Opened, step: int, processes: int) -> tuple[Samples, Samples | Pairs]:
    """Return the labelled samples of all processes from a step on, and the samples of a step.

    With consistency learning, the samples of a step also contain pairs of crops.
    """
    settings, optimiser = opened.settings, opened.settings.optimiser
    start, count = (steps * optimiser.batch * processes for steps in (step, optimiser.steps))
    labelled = labelled_samples(opened.training, settings, start, count)
    if settings.consistency is None:
        return labelled, labelled
    which = "as_it_lies" if settings.consistency.published else settings.augmentation.orientations
    crops = Crops(opened.unlabelled, optimiser.patch_voxels, which)
    return labelled, Pairs(labelled, crops, settings.consistency.perturbations, seed=settings.seed, start=start)


def labelled_samples(opened: list[OpenedVolume], settings: TrainingSettings, start: int, count: int) -> Samples:
    """Return the samples `start` to `count` of labelled volumes. Reads the volumes into memory."""
    optimiser, sigma = settings.optimiser, settings.targets.descriptor_sigma_nm
    turned = orientations(settings.augmentation.orientations)
    volumes = [
        read_labelled(volume, patch=optimiser.patch_voxels, turned=turned, descriptor_sigma_nm=sigma)
        for volume in opened
    ]
    return Samples(
        volumes,
        shape=optimiser.patch_voxels,
        margin=optimiser.margin_voxels,
        count=count,
        seed=settings.seed,
        targets=settings.targets,
        augmentation=settings.augmentation,
        start=start,
    )


class _BestBundle:
    """Validate networks and keep the best one as `folder/bundle`."""

    def __init__(
        self,
        folder: Path,
        settings: TrainingSettings,
        opened: OpenedVolume,
        device: torch.device,
        origin: Origin,
        progress: bool,
    ) -> None:
        self._folder, self._settings, self._opened = folder, settings, opened
        self._device, self._origin, self._progress = device, origin, progress

    def __call__(self, network: nn.Module, step: int) -> dict[str, float]:
        """Validate, keep the bundle if it is the best so far, and return the scores to log."""
        made = validate(network, self._opened, self._settings, self._device, progress=self._progress)
        choices, best = made.choices, made.choices[0]
        logger.info(
            "step %d: VOI sum %.3f bits by %s at %g (predicted in %.0f s, segmented and scored in %.0f s)",
            step, best.scores.voi_sum, best.scoring, best.threshold, made.seconds.prediction, made.seconds.segmentation,
        )  # fmt: skip
        record = self._record()
        if record is None or not self._has_bundle() or best.scores.voi_sum < record["voi_sum"]:
            export_bundle(
                self._folder / "bundle",
                network,
                self._settings,
                voxel_size_nm=self._opened.voxel_size_nm,
                step=step,
                choices=choices,
                context=context_effect(network, self._opened, self._settings, self._device),
                origin=self._origin,
                begun=read_origin(self._folder),
            )
            content = {"step": step, "scoring": best.scoring, "threshold": best.threshold, **best.scores.as_dict()}
            publish_text(self._folder / "best.yaml", yaml.safe_dump(content))
        return {**best.scores.as_dict(), "threshold": best.threshold}

    def outcome(self) -> Outcome:
        """Return the best bundle. Raises InputError if nothing was validated or the bundle is missing."""
        from neuroseg.evaluation.metrics import Scores

        record = self._record()
        if record is None:
            raise InputError(f"{self._folder} has no validated bundle", hint="train again with --restart")
        if not self._has_bundle():
            raise InputError(
                f"the training in {self._folder} is finished, but its best bundle (step {record['step']}) is missing: "
                f"{self._folder / 'bundle'} lacks {CARD} or {WEIGHTS}",
                hint="restore the bundle from a copy, or train again with --restart",
            )
        scores = Scores(record["voi_split"], record["voi_merge"], record["arand"])
        return Outcome(self._folder / "bundle", record["step"], Choice(record["scoring"], record["threshold"], scores))

    def _has_bundle(self) -> bool:
        return all((self._folder / "bundle" / name).is_file() for name in (CARD, WEIGHTS))

    def _record(self) -> dict[str, Any] | None:
        """Return the record of the best bundle, or None if it is missing or incomplete."""
        path = self._folder / "best.yaml"
        if not path.exists():
            return None
        try:
            content = read_yaml(path)
        except InputError as error:
            logger.warning("%s; the next validation becomes the best", error.args[0])
            return None
        return content if content.keys() >= _BEST_KEYS else None

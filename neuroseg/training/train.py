"""The whole of `neuroseg train`: configuration -> data -> loop -> best bundle."""

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
from neuroseg.networks.windows import WindowRule, checked_margin
from neuroseg.storage.publish import publish_text
from neuroseg.training.data.labelled import OpenedVolume, open_labelled, read_labelled
from neuroseg.training.data.samples import Samples
from neuroseg.training.data.unlabelled import Crops, Pairs, Region, open_unlabelled
from neuroseg.training.folder import prepare_folder
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
from neuroseg.training.perturbations.orientations import orientations
from neuroseg.training.reading import read_settings
from neuroseg.training.relative_paths import located
from neuroseg.training.settings import TargetSettings, TrainingOptimiserSettings, TrainingSettings
from neuroseg.training.validation.context_effect import context_effect
from neuroseg.training.validation.dry_run import dry_run, held_bytes, small_part
from neuroseg.training.validation.duration import Clock, validation_seconds
from neuroseg.training.validation.export import Origin, export_bundle
from neuroseg.training.validation.validate import Choice, validate

logger = logging.getLogger(__name__)
_BEST_KEYS = {"step", "scoring", "threshold", "voi_split", "voi_merge", "voi_sum", "arand"}


@dataclass(frozen=True)
class Outcome:
    """Where the best bundle lies and how it scored."""

    bundle: Path
    step: int
    best: Choice


@dataclass(frozen=True)
class Opened:
    """A configuration with its data found and opened; nothing was read or written.

    `settings` as they were written, `seen` with their paths seen from the current folder.
    """

    settings: TrainingSettings
    seen: TrainingSettings
    training: list[OpenedVolume]
    unlabelled: list[Region]
    validation: OpenedVolume


def open_training(configuration: Path, bundle: str | None = None) -> Opened:
    """Return what a configuration asks for, its network begun with `bundle` where one is given.

    Raises InputError for a wrong one and for missing data.
    """
    settings = read_settings(configuration, TrainingSettings)
    seen = located(settings, configuration)
    if bundle is not None:
        settings, seen = with_initial_bundle(settings, seen, bundle)
    if not settings.data.training or settings.data.validation is None:
        raise InputError(f"{configuration}: data.training and data.validation say what to learn from and to judge on")
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
    """Train to the last step, resuming what `folder` holds; returns the best bundle.

    `bundle`, a bundled model's name or a bundle's folder, is what the network begins with (`network.bundle`).
    `command` goes on the card: what was typed, empty where nothing was.

    Raises InputError for a wrong configuration, missing data or a CPU that computes it wrongly, and RunRefusedError
    when the folder holds a training of another configuration.
    """
    with process_group() as group:
        opened, chosen = open_training(configuration, bundle), choose_device(local_device(device))
        settings = opened.settings
        make_repeatable(chosen)
        trainer = Trainer(settings, folder, chosen, group)
        begins = restart or not (folder / "checkpoint.pt").exists()
        if begins:
            load_initial_weights(trainer, opened.seen.network, opened.training[0].voxel_size_nm)
            check_gradients(settings, chosen)
        # What is wrong was found by now: only then is a folder begun, or one emptied.
        if group.is_first:
            prepare_folder(folder, settings, restart)
            if begins:
                write_origin(folder, opened.seen.network)
        group.wait()
        logger.info("%s: %d parameters on %s", settings.name, parameter_count(trainer.network), chosen)
        warn_if_emulated(chosen, settings.optimiser.precision)
        if (folder / "checkpoint.pt").exists():
            trainer.load()
            if not is_over(trainer):
                check_gradients(settings, chosen)  # perhaps another machine, with as many threads as before
        origin = Origin(configuration.stem, command)
        keeper = _BestBundle(folder, settings, opened.validation, chosen, origin, progress)

        if not is_over(trainer):
            logger.info("reading the training volumes and computing their shape descriptors (a minute per 10 Mvoxel)")
            labelled, samples = samples_of(opened, trainer.step, group.size)
            count = settings.validation.statistics_samples

            def validate_judged(step: int) -> dict[str, float]:
                own = with_recomputed_statistics(
                    trainer.network_to_validate(), labelled.first(count), "raw",
                    count=count, batch=settings.optimiser.batch, device=chosen,
                )  # fmt: skip
                return keeper(own, step)

            run_training(trainer, samples, validate_judged, progress=progress)
        return keeper.outcome()


def dry_run_training(
    configuration: Path,
    folder: Path,
    *,
    bundle: str | None = None,
    device: str = "auto",
    clock: Clock = time.monotonic,
) -> dict[str, Any]:
    """Check a configuration and its data and take a few steps; returns what a training would take. Writes nothing."""
    opened = open_training(configuration, bundle)
    data, described = opened.seen.data, opened.settings.targets.descriptor_sigma_nm > 0
    for volume in data.test:
        open_labelled(volume, data.folders)  # missing, it would show only when the training is over
    patch = opened.settings.optimiser.patch_voxels
    small = replace(opened, training=[small_part(volume, patch) for volume in opened.training])
    trainer = Trainer(opened.settings, folder, choose_device(device), ProcessGroup())
    load_initial_weights(trainer, opened.seen.network, opened.training[0].voxel_size_nm)
    check_gradients(opened.settings, trainer.device)
    whole, part = (sum(held_bytes(v, described) for v in some.training) for some in (opened, small))
    labelled, samples = samples_of(small, 0, 1)

    def judge(clock: Clock) -> dict[str, float]:
        return validation_seconds(
            trainer.network_to_validate(), labelled, opened.validation, opened.settings, trainer.device, clock
        )

    return dry_run(trainer, samples, judge, unread_bytes=whole - part, clock=clock)


def check_windows(settings: TrainingSettings) -> None:
    """Raise InputError for patches, margins and windows that do not suit the network, and offsets that do not segment.

    A training would end with them at its first step, or at its first validation.
    """
    network, wanted, optimiser = settings.network, settings.validation, settings.optimiser
    _check_offsets(settings.targets, optimiser)
    with torch.device("meta"):
        rule = build_network(network.architecture, network.parameters).windows
    assert isinstance(rule, WindowRule)
    if not rule.allows(optimiser.patch_voxels):
        raise InputError(f"optimiser.patch_voxels {optimiser.patch_voxels} do not suit the network: {rule}")
    if any(margin < lost for margin, lost in zip(optimiser.margin_voxels, rule.margin, strict=True)):
        raise InputError(f"optimiser.margin_voxels {optimiser.margin_voxels}: the network loses {rule.margin} itself")
    checked_margin(rule, wanted.tile_voxels, wanted.context_voxels, wanted.blend)


def check_gradients(settings: TrainingSettings, device: torch.device) -> None:
    """Raise InputError when this CPU computes the steps of such a training wrongly."""
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
        raise InputError(f"targets.offsets cannot be segmented: {error}") from error
    reach = [width - margin for width, margin in zip(optimiser.patch_voxels, optimiser.margin_voxels, strict=True)]
    for name in ("offsets", "auxiliary_offsets"):
        for offset in getattr(targets, name):
            if any(abs(step) >= width for step, width in zip(offset, reach, strict=True)):
                raise InputError(
                    f"targets.{name} {offset} reaches past optimiser.patch_voxels {optimiser.patch_voxels} less "
                    f"margin_voxels {optimiser.margin_voxels} on one side: no voxel would have such a link"
                )


def samples_of(opened: Opened, step: int, processes: int) -> tuple[Samples, Samples | Pairs]:
    """Return the labelled samples of all processes from a step on, and what a step takes: those, or pairs as well."""
    settings, optimiser = opened.settings, opened.settings.optimiser
    start, count = (steps * optimiser.batch * processes for steps in (step, optimiser.steps))
    labelled = labelled_samples(opened.training, settings, start, count)
    if settings.consistency is None:
        return labelled, labelled
    which = "as_it_lies" if settings.consistency.published else settings.augmentation.orientations
    crops = Crops(opened.unlabelled, optimiser.patch_voxels, which)
    return labelled, Pairs(labelled, crops, settings.consistency.perturbations, seed=settings.seed, start=start)


def labelled_samples(opened: list[OpenedVolume], settings: TrainingSettings, start: int, count: int) -> Samples:
    """Return samples `start` to `count` of labelled volumes, which are read into memory."""
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
    """Validates a network and keeps the best bundle in `folder/bundle`."""

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
        # Prediction pins the process to one thread; training goes on with as many as before.
        threads = torch.get_num_threads()
        try:
            return self._judge(network, step)
        finally:
            torch.set_num_threads(threads)

    def _judge(self, network: nn.Module, step: int) -> dict[str, float]:
        """Validate, and keep the bundle when it is the best so far; returns the scores to log."""
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
        """Return the best so far; raises InputError when nothing was validated, or the best bundle is gone."""
        from neuroseg.evaluation.metrics import Scores

        record = self._record()
        if record is None:
            raise InputError(f"{self._folder} has no validated bundle; train again with --restart")
        if not self._has_bundle():
            raise InputError(
                f"the training in {self._folder} is over, and its best bundle (step {record['step']}) is gone: "
                f"{self._folder / 'bundle'} lacks {CARD} or {WEIGHTS}; put it back, or train again with --restart"
            )
        scores = Scores(record["voi_split"], record["voi_merge"], record["arand"])
        return Outcome(self._folder / "bundle", record["step"], Choice(record["scoring"], record["threshold"], scores))

    def _has_bundle(self) -> bool:
        return all((self._folder / "bundle" / name).is_file() for name in (CARD, WEIGHTS))

    def _record(self) -> dict[str, Any] | None:
        """Return what is known of the best so far; None where there is none, or nothing that could be compared."""
        path = self._folder / "best.yaml"
        if not path.exists():
            return None
        try:
            content = read_yaml(path)
        except InputError as error:
            logger.warning("%s; the next validation counts as the best so far", error)
            return None
        return content if content.keys() >= _BEST_KEYS else None

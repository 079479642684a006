"""Expected duration of a validation: measured on a small part and scaled to the whole."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from funlib.geometry import Coordinate, Roi
from torch import nn

from neuroseg.affinities.inference import Predictor
from neuroseg.geometry import slices, whole
from neuroseg.networks.windows import WindowRule
from neuroseg.training.data.affinity_targets import affinity_targets
from neuroseg.training.data.labelled import OpenedVolume
from neuroseg.training.data.samples import Samples
from neuroseg.training.judging.validate_network import choose, segmented_region, tiles_of
from neuroseg.training.learning.statistics import with_recomputed_statistics
from neuroseg.training.settings import TrainingSettings

Clock = Callable[[], float]
_Found = TypeVar("_Found")
# Large enough that the time grows in proportion to the volume; takes one or two seconds.
_SEGMENTED_EDGE_VOXELS = 128


def validation_seconds(
    network: nn.Module,
    samples: Samples,
    opened: OpenedVolume,
    settings: TrainingSettings,
    device: torch.device,
    clock: Clock,
) -> dict[str, float]:
    """Return the expected seconds of each part of a validation: statistics, prediction, segmentation and context.

    Times one batch of samples, one predicted window, and the segmentation of a part of the region from its labels. Each
    runs twice, and the second run is timed, because the first one compiles code. `context`: a tile with twice its
    context, which only a new best validation predicts.
    """
    validation, batch = settings.validation, settings.optimiser.batch
    window = _timed_window(network, settings, device, clock)
    part = _part(opened, settings)
    segmented = segmented_region(opened, settings)
    scale = float(segmented.size) / float(segmented_region(part, settings).size)
    batches = math.ceil(validation.statistics_samples / batch)
    per_batch = 0.0
    if batches:
        per_batch = _seconds_of_second_call(
            lambda: with_recomputed_statistics(network, samples, "raw", count=batch, batch=batch, device=device), clock
        )
    return {
        "statistics": batches * per_batch,
        "prediction": len(tiles_of(settings).tiles(segmented)) * window,
        "segmentation": scale * _seconds_of_second_call(lambda: _segmented(part, settings), clock),
        "context": window * _windows_of_context(network, settings),
    }


def validation_count(steps: int, every: int) -> int:
    """Return the number of validations: every `every` steps and after the last step."""
    return math.ceil(steps / every)


def _timed_window(network: nn.Module, settings: TrainingSettings, device: torch.device, clock: Clock) -> float:
    tiles = tiles_of(settings)
    predictor = Predictor(network, replace(tiles, blend="centre"), device)
    raw = np.random.default_rng(0).integers(0, 256, tiles.output, np.uint8)
    return _seconds_of_second_call(
        lambda: predictor.predict(lambda roi: raw[slices(roi)], raw.shape, whole(raw.shape)), clock
    )


def _part(opened: OpenedVolume, settings: TrainingSettings) -> OpenedVolume:
    """Return a volume with the first part of its region, small enough to segment in one or two seconds."""
    edge = Coordinate([_SEGMENTED_EDGE_VOXELS] * 3)
    return replace(opened, region=Roi(opened.region.begin, edge).intersect(opened.region))


def _segmented(opened: OpenedVolume, settings: TrainingSettings) -> Any:
    """Segment and score a region as a validation does, with affinities computed from its labels."""
    region = segmented_region(opened, settings)
    targets, _ = affinity_targets(opened.read_labels(region), settings.targets.offsets)
    return choose((targets * 255).astype(np.uint8), region, opened, settings)


def _windows_of_context(network: nn.Module, settings: TrainingSettings) -> float:
    """Return the work of training/validation/context_effect.py, in windows of normal size."""
    wanted, rule = settings.validation, network.windows
    assert isinstance(rule, WindowRule)
    tile, context = wanted.tile_voxels, wanted.context_voxels
    wide = [t + 4 * c for t, c in zip(tile, context, strict=True)]
    if not rule.allows(wide):
        return 0.0
    usual = [t + 2 * c for t, c in zip(tile, context, strict=True)]
    one_tile, tiles = Roi((0, 0, 0), tile), tiles_of(settings)
    wider = replace(tiles, context=(2 * context[0], 2 * context[1], 2 * context[2]))
    ratio = math.prod(wide) / math.prod(usual)
    return len(tiles.tiles(one_tile)) + ratio * len(wider.tiles(one_tile))


def _seconds_of_second_call(work: Callable[[], _Found], clock: Clock) -> float:
    """Call `work` twice and return the seconds of the second call."""
    work()
    began = clock()
    work()
    return clock() - began

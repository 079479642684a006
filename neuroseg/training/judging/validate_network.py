"""Network -> its scores on the validation volume, computed with the prediction and segmentation code of a run."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from neuroseg.affinities.inference import Predictor, TileSettings
from neuroseg.agglomeration.scorings import parse_scoring
from neuroseg.evaluation.contingency import contingency
from neuroseg.evaluation.metrics import Scores
from neuroseg.evaluation.sweep import sweep
from neuroseg.fragments.settings import BasinSettings, wants_sections
from neuroseg.geometry import triple, whole
from neuroseg.runs.in_memory import fragments_and_tables
from neuroseg.training.data.labelled import OpenedVolume
from neuroseg.training.settings import TrainingSettings


@dataclass(frozen=True)
class Choice:
    """A scoring, its best threshold and the scores there."""

    scoring: str
    threshold: float
    scores: Scores


@dataclass(frozen=True)
class Seconds:
    """Durations of the parts of one validation, in seconds."""

    prediction: float
    segmentation: float


@dataclass(frozen=True)
class Validated:
    """The best threshold of each scoring, the best scoring first, and the duration of the validation."""

    choices: list[Choice]
    seconds: Seconds


def segmented_region(opened: OpenedVolume, settings: TrainingSettings) -> Roi:
    """Return the region that a validation predicts and segments: its region grown by `surround_voxels`.

    The result is cut to the volume.
    """
    surround = Coordinate(settings.validation.surround_voxels)
    return opened.region.grow(surround, surround).intersect(whole(triple(opened.raw.shape)))


def tiles_of(settings: TrainingSettings) -> TileSettings:
    """Return the tiles of a training's model, for validation and for its card."""
    wanted = settings.validation
    return TileSettings(wanted.tile_voxels, wanted.context_voxels, 1, 255.0, settings.targets.offsets, wanted.blend)


def validate(
    network: nn.Module,
    opened: OpenedVolume,
    settings: TrainingSettings,
    device: torch.device,
    *,
    progress: bool = False,
) -> Validated:
    """Return the best threshold of each scoring on the validation region.

    Raw outside the region is context. Raw within `surround_voxels` is also segmented. Labels outside the region are not
    used. `progress` shows a bar of the predicted windows.
    """
    began = time.monotonic()
    segmented, tiles = segmented_region(opened, settings), tiles_of(settings)
    with tqdm(
        total=len(tiles.tiles(segmented)),
        desc="validation",
        unit="window",
        disable=not progress,
        leave=False,
        mininterval=2,
    ) as bar:
        predictor = Predictor(network, tiles, device)
        affinities = predictor.predict(opened.raw.read, opened.raw.shape, segmented, bar.update)
        predicted = time.monotonic()
        bar.set_postfix_str("segmenting and scoring")
        choices = choose(affinities, segmented, opened, settings)
    return Validated(choices, Seconds(predicted - began, time.monotonic() - predicted))


def choose(
    affinities: NDArray[np.uint8], segmented: Roi, opened: OpenedVolume, settings: TrainingSettings
) -> list[Choice]:
    """Return the best threshold of each scoring for the affinities of a region, the best scoring first."""
    region = opened.region.intersect(segmented)
    basins = BasinSettings(opened.voxel_size_nm, per_section=wants_sections(opened.voxel_size_nm))
    scorings = [parse_scoring(text) for text in settings.validation.scorings]
    made = fragments_and_tables(
        affinities, settings.targets.offsets, basins, with_bins=any(scoring.every_contact for scoring in scorings)
    )
    scored = tuple(slice(b - o, e - o) for b, e, o in zip(region.begin, region.end, segmented.begin, strict=True))
    counted = contingency(made.fragments[scored], opened.read_labels(region))
    choices = []
    for scoring in scorings:
        results = sweep(made.tree(scoring), made.nodes, counted)
        threshold, scores = min(results, key=lambda result: result[1].voi_sum)
        choices.append(Choice(str(scoring), threshold, scores))
    return sorted(choices, key=lambda choice: choice.scores.voi_sum)

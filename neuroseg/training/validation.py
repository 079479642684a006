"""A network -> its scores on the validation volume, through the real prediction and segmentation code."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from funlib.geometry import Coordinate
from torch import nn

from neuroseg.affinities.inference import Predictor, TileSettings, predict_region
from neuroseg.agglomeration.scorings import parse_scoring
from neuroseg.evaluation.contingency import contingency
from neuroseg.evaluation.metrics import Scores
from neuroseg.evaluation.sweep import sweep
from neuroseg.fragments.settings import BasinSettings, wants_sections
from neuroseg.geometry import triple, whole
from neuroseg.memory import fragments_and_tables
from neuroseg.training.settings import TrainingSettings
from neuroseg.training.volumes import OpenedVolume


@dataclass(frozen=True)
class Choice:
    """The best of a sweep over scorings and thresholds."""

    scoring: str
    threshold: float
    scores: Scores


def validate(
    network: nn.Module, opened: OpenedVolume, settings: TrainingSettings, device: torch.device
) -> list[Choice]:
    """Return the best threshold of each scoring on the validation region, the best scoring first.

    Raw beyond the region serves as context, and as much of it as `surround_voxels` says is segmented too; labels beyond
    the region are not looked at.
    """
    region = opened.region
    surround = Coordinate(settings.validation.surround_voxels)
    segmented = region.grow(surround, surround).intersect(whole(triple(opened.raw.shape)))
    offsets = settings.targets.offsets
    wanted = settings.validation
    tiles = TileSettings(wanted.tile_voxels, wanted.context_voxels, 1, 255.0, len(offsets), wanted.blend)
    predictor = Predictor(network, tiles, device)
    affinities = predict_region(predictor, opened.raw.read, opened.raw.shape, tiles, segmented)
    basins = BasinSettings(opened.voxel_size_nm, per_section=wants_sections(opened.voxel_size_nm))
    scorings = [parse_scoring(text) for text in settings.validation.scorings]
    made = fragments_and_tables(
        affinities, offsets, basins, with_bins=any(scoring.every_contact for scoring in scorings)
    )
    scored = tuple(slice(b - o, e - o) for b, e, o in zip(region.begin, region.end, segmented.begin, strict=True))
    counted = contingency(made.fragments[scored], opened.read_labels(region))
    choices = []
    for scoring in scorings:
        results = sweep(made.tree(scoring), made.nodes, counted)
        threshold, scores = min(results, key=lambda result: result[1].voi_sum)
        choices.append(Choice(str(scoring), threshold, scores))
    return sorted(choices, key=lambda choice: choice.scores.voi_sum)

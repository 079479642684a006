"""How far a network agrees with itself: perturbed copies of the same crops, segmented and compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from neuroseg.affinities.inference import Predictor, TileSettings, predict_region
from neuroseg.agglomeration.scorings import parse_scoring
from neuroseg.evaluation.contingency import contingency
from neuroseg.evaluation.metrics import scores_of
from neuroseg.fragments.settings import BasinSettings, wants_sections
from neuroseg.geometry import slices, triple, whole
from neuroseg.memory import segmentation_of
from neuroseg.networks.card import Card
from neuroseg.training.perturbations.appearance import Float
from neuroseg.training.perturbations.draw import perturbed

# Only what changes grey values: segmentations of moved tissue could not be compared voxel by voxel.
PERTURBATIONS = ("intensity", "noise", "blur")
# A network that calls ever more one object agrees with itself ever better: so much of its segments' entropy must stay.
_KEPT_ENTROPY = 0.8


@dataclass(frozen=True)
class Agreement:
    """`voi_of_crops`: bits between the segmentations of two perturbed copies of each crop; `voi`: their mean.

    `entropy`: mean bits of the clean ones. A network that calls everything one object agrees with itself perfectly; its
    entropy is 0.
    """

    voi: float
    entropy: float
    voi_of_crops: tuple[float, ...]


def agreement(network: nn.Module, card: Card, crops: Sequence[Float], device: torch.device, seed: int) -> Agreement:
    """Return how far segmentations of perturbed copies of `crops` (z, y, x in [0, 1]) agree; the same for a seed."""
    tiles = TileSettings(
        card.tile.output_voxels, card.tile.context_voxels, card.tile.batch, card.raw_scale, len(card.offsets),
        card.tile.blend,
    )  # fmt: skip
    predictor = Predictor(network, tiles, device)
    apart, entropies = [], []
    for number, crop in enumerate(crops):
        rng = np.random.default_rng([seed, number])
        one, other = (_segmented(predictor, tiles, card, perturbed(crop, PERTURBATIONS, rng).raw) for _ in range(2))
        apart.append(scores_of(contingency(one, other)).voi_sum)
        entropies.append(_entropy(_segmented(predictor, tiles, card, crop)))
    return Agreement(float(np.mean(apart)), float(np.mean(entropies)), tuple(apart))


def agrees_better(before: Agreement, after: Agreement) -> bool:
    """Return whether the same crops agree better than before, and not because their segments merged.

    The mean gain must be more than twice its standard error over the crops (two at least), and most of the segments'
    entropy stay.
    """
    if len(before.voi_of_crops) < 2:
        raise ValueError("one crop does not tell how far crops differ")
    gains = np.subtract(before.voi_of_crops, after.voi_of_crops)
    error = float(np.std(gains, ddof=1)) / len(gains) ** 0.5
    return float(gains.mean()) > 2 * error and after.entropy >= _KEPT_ENTROPY * before.entropy


def _segmented(predictor: Predictor, tiles: TileSettings, card: Card, raw: Float) -> NDArray[np.uint64]:
    """Return the segmentation of a crop by the card's scoring and threshold."""
    grey = np.clip(np.rint(raw * card.raw_scale), 0, 255).astype(np.uint8)
    roi = whole(triple(raw.shape))
    affinities = predict_region(predictor, lambda at: grey[slices(at)], raw.shape, tiles, roi)
    basins = BasinSettings(card.voxel_size_nm, per_section=wants_sections(card.voxel_size_nm))
    chosen = card.segmentation
    scoring = parse_scoring(chosen.scoring)
    return segmentation_of(affinities, card.offsets, basins, scoring=scoring, threshold=chosen.threshold)


def _entropy(segmentation: NDArray[np.uint64]) -> float:
    """Return the entropy of the segments' sizes in bits."""
    sizes = np.unique(segmentation[segmentation > 0], return_counts=True)[1]
    shares = sizes / max(int(sizes.sum()), 1)
    return float(-(shares * np.log2(shares)).sum()) if len(shares) else 0.0

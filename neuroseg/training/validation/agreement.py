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
from neuroseg.evaluation.metrics import entropy, scores_of
from neuroseg.fragments.settings import BasinSettings, wants_sections
from neuroseg.geometry import slices, triple, whole
from neuroseg.networks.card import Card
from neuroseg.runs.in_memory import segmentation_of
from neuroseg.training.perturbations.appearance import Float
from neuroseg.training.perturbations.draw import perturbed

# Only what changes grey values: segmentations of moved tissue could not be compared voxel by voxel.
PERTURBATIONS = ("intensity", "noise", "blur")
# A network that calls ever more one object agrees with itself ever better: so much of its segments' entropy must stay.
_KEPT_ENTROPY = 0.8


@dataclass(frozen=True)
class Agreement:
    """`voi_of_crops`: bits between the segmentations of two perturbed copies of each crop; `voi`: their mean.

    `joint_of_crops`: bits that the two copies' segmentations hold together, the most that they could lie apart.
    `entropy`: mean bits of the clean ones. A network that calls everything one object agrees with itself perfectly; its
    entropy is 0.
    """

    voi: float
    entropy: float
    voi_of_crops: tuple[float, ...]
    joint_of_crops: tuple[float, ...]

    @property
    def disagreement(self) -> float:
        """The share in which the copies lie apart of all that they say, in [0, 1]; 0 where they say nothing."""
        return _share(np.array(self.voi_of_crops), np.array(self.joint_of_crops))

    def better_crops(self, before: Agreement) -> int:
        """Return on how many crops the copies lie apart in a smaller share than they did before."""
        found, earlier = (zip(each.voi_of_crops, each.joint_of_crops, strict=True) for each in (self, before))
        shares = [[apart / joint if joint > 0 else 0.0 for apart, joint in crops] for crops in (found, earlier)]
        return sum(now < then for now, then in zip(*shares, strict=True))


def agreement(network: nn.Module, card: Card, crops: Sequence[Float], device: torch.device, seed: int) -> Agreement:
    """Return how far segmentations of perturbed copies of `crops` (z, y, x in [0, 1]) agree; the same for a seed."""
    tiles = TileSettings(
        card.tile.output_voxels, card.tile.context_voxels, card.tile.batch, card.raw_scale, len(card.offsets),
        card.tile.blend,
    )  # fmt: skip
    predictor = Predictor(network, tiles, device)
    apart, joint, entropies = [], [], []
    for number, crop in enumerate(crops):
        rng = np.random.default_rng([seed, number])
        one, other = (_segmented(predictor, tiles, card, perturbed(crop, PERTURBATIONS, rng).raw) for _ in range(2))
        table = contingency(one, other)
        apart.append(scores_of(table).voi_sum)
        joint.append(entropy(table["count"]))
        segments = _segmented(predictor, tiles, card, crop)
        entropies.append(entropy(np.unique(segments[segments > 0], return_counts=True)[1]))
    return Agreement(float(np.mean(apart)), float(np.mean(entropies)), tuple(apart), tuple(joint))


def agrees_better(before: Agreement, after: Agreement) -> bool:
    """Return whether the same crops agree better than before, and not because their segments merged.

    What counts is the share in which copies lie apart of all that they say: bits alone would punish a network that now
    tells more objects apart. The gain must be more than twice its standard error (the jackknife's, over two crops at
    least), and most of the segments' entropy stay.
    """
    count = len(before.voi_of_crops)
    if count < 2:
        raise ValueError("one crop does not tell how far crops differ")
    without = np.array([_without(before, crop) - _without(after, crop) for crop in range(count)])
    error = float(((count - 1) / count * ((without - without.mean()) ** 2).sum()) ** 0.5)
    gain = before.disagreement - after.disagreement
    return gain > 2 * error and after.entropy >= _KEPT_ENTROPY * before.entropy


def _without(found: Agreement, crop: int) -> float:
    """Return the share in which the copies of all crops but one lie apart."""
    return _share(np.delete(found.voi_of_crops, crop), np.delete(found.joint_of_crops, crop))


def _share(apart: NDArray[np.float64], joint: NDArray[np.float64]) -> float:
    return float(apart.sum() / joint.sum()) if joint.sum() > 0 else 0.0


def _segmented(predictor: Predictor, tiles: TileSettings, card: Card, raw: Float) -> NDArray[np.uint64]:
    """Return the segmentation of a crop by the card's scoring and threshold."""
    grey = np.clip(np.rint(raw * card.raw_scale), 0, 255).astype(np.uint8)
    roi = whole(triple(raw.shape))
    affinities = predict_region(predictor, lambda at: grey[slices(at)], raw.shape, tiles, roi)
    basins = BasinSettings(card.voxel_size_nm, per_section=wants_sections(card.voxel_size_nm))
    chosen = card.segmentation
    scoring = parse_scoring(chosen.scoring)
    return segmentation_of(affinities, card.offsets, basins, scoring=scoring, threshold=chosen.threshold)

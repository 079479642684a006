"""Agreement of a network with itself: compare segmentations of perturbed copies of the same crops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from neuroseg.affinities.inference import Predictor
from neuroseg.affinities.predictors import tile_settings
from neuroseg.agglomeration.scorings import parse_scoring
from neuroseg.evaluation.contingency import contingency
from neuroseg.evaluation.metrics import entropy, scores_of
from neuroseg.fragments.settings import BasinSettings, wants_sections
from neuroseg.geometry import slices, triple, whole
from neuroseg.networks.card import Card
from neuroseg.runs.in_memory import segmentation_of
from neuroseg.training.perturbations.appearance import Float
from neuroseg.training.perturbations.draw import perturbed

# Only perturbations of grey values: segmentations of moved tissue cannot be compared voxel by voxel.
PERTURBATIONS = ("intensity", "noise", "blur")
# A network that merges objects agrees better with itself. At least this share of the segments' entropy must remain.
_KEPT_ENTROPY = 0.8


@dataclass(frozen=True)
class Agreement:
    """Agreement of segmentations of perturbed copies of crops, all in bits.

    `voi_of_crops`: variation of information between two perturbed copies of each crop. `voi`: its mean.
    `joint_of_crops`: joint entropy of the two copies, the largest possible variation of information.
    `entropy`: mean entropy of the segmentations of the clean crops. It is 0 for a network that merges everything, which
    agrees perfectly with itself.
    """

    voi: float
    entropy: float
    voi_of_crops: tuple[float, ...]
    joint_of_crops: tuple[float, ...]

    @property
    def disagreement(self) -> float:
        """Variation of information as a share of the joint entropy, in [0, 1]. 0 if the joint entropy is 0."""
        return _share(np.array(self.voi_of_crops), np.array(self.joint_of_crops))

    def better_crops(self, before: Agreement) -> int:
        """Return the number of crops with a smaller disagreement than before."""
        found, earlier = (zip(each.voi_of_crops, each.joint_of_crops, strict=True) for each in (self, before))
        shares = [[apart / joint if joint > 0 else 0.0 for apart, joint in crops] for crops in (found, earlier)]
        return sum(now < then for now, then in zip(*shares, strict=True))


def agreement(network: nn.Module, card: Card, crops: Sequence[Float], device: torch.device, seed: int) -> Agreement:
    """Return the agreement of a network on `crops` `(z, y, x)` in [0, 1]. The same seed gives the same result."""
    predictor = Predictor(network, tile_settings(card), device)
    apart, joint, entropies = [], [], []
    for number, crop in enumerate(crops):
        rng = np.random.default_rng([seed, number])
        one, other = (_segmented(predictor, card, perturbed(crop, PERTURBATIONS, rng).raw) for _ in range(2))
        table = contingency(one, other)
        apart.append(scores_of(table).voi_sum)
        joint.append(entropy(table["count"]))
        segments = _segmented(predictor, card, crop)
        entropies.append(entropy(np.unique(segments[segments > 0], return_counts=True)[1]))
    return Agreement(float(np.mean(apart)), float(np.mean(entropies)), tuple(apart), tuple(joint))


def agrees_better(before: Agreement, after: Agreement) -> bool:
    """Return whether a network agrees better on the same crops than before, without merging segments.

    Compares the disagreement, not the bits, because bits increase if a network separates more objects. The gain must
    be more than twice its standard error (jackknife over at least two crops). The entropy must not drop by more than
    20 %.
    """
    count = len(before.voi_of_crops)
    if count < 2:
        raise ValueError(f"at least two crops are needed for a standard error, found {count}")
    without = np.array([_without(before, crop) - _without(after, crop) for crop in range(count)])
    error = float(((count - 1) / count * ((without - without.mean()) ** 2).sum()) ** 0.5)
    gain = before.disagreement - after.disagreement
    return gain > 2 * error and after.entropy >= _KEPT_ENTROPY * before.entropy


def _without(found: Agreement, crop: int) -> float:
    """Return the disagreement without one of the crops."""
    return _share(np.delete(found.voi_of_crops, crop), np.delete(found.joint_of_crops, crop))


def _share(apart: NDArray[np.float64], joint: NDArray[np.float64]) -> float:
    return float(apart.sum() / joint.sum()) if joint.sum() > 0 else 0.0


def _segmented(predictor: Predictor, card: Card, raw: Float) -> NDArray[np.uint64]:
    """Return the segmentation of a crop with the scoring and threshold of the card."""
    grey = np.clip(np.rint(raw * card.raw_scale), 0, 255).astype(np.uint8)
    affinities = predictor.predict(lambda at: grey[slices(at)], raw.shape, whole(triple(raw.shape)))
    basins = BasinSettings(card.voxel_size_nm, per_section=wants_sections(card.voxel_size_nm))
    chosen = card.segmentation
    scoring = parse_scoring(chosen.scoring)
    return segmentation_of(affinities, card.offsets, basins, scoring=scoring, threshold=chosen.threshold)

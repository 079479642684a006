"""Measure how much a prediction changes with more context than the tile has. The result is stored on the card."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from neuroseg.affinities.inference import Predictor, TileSettings
from neuroseg.affinities.tiles import tiles_covering
from neuroseg.geometry import triple
from neuroseg.networks.windows import WindowRule
from neuroseg.training.data.labelled import OpenedVolume
from neuroseg.training.settings import TrainingSettings


def context_effect(
    network: nn.Module, opened: OpenedVolume, settings: TrainingSettings, device: torch.device
) -> dict[str, float]:
    """Return the change of the stored values of one tile if its context is twice as wide.

    `changed`: share of values that differ. `changed_by_3`: share that differs by more than 2 of 255, which is more than
    rounding. `largest`: the largest difference. The tile is in the centre of the validation region. The blend is that
    of the model: with a gaussian blend, all windows are wider. Empty if the network does not accept the wider window,
    as networks with valid convolutions.
    """
    wanted = settings.validation
    tile, context = wanted.tile_voxels, wanted.context_voxels
    rule = network.windows
    assert isinstance(rule, WindowRule)
    if not rule.allows([t + 4 * c for t, c in zip(tile, context, strict=True)]):
        return {}
    centre = tiles_covering(opened.region, tile)
    roi = centre[len(centre) // 2].intersect(opened.raw.roi)
    made = []
    for factor in (1, 2):
        wider = [factor * width for width in context]
        tiles = TileSettings(tile, triple(wider), 1, 255.0, settings.targets.offsets, wanted.blend)
        made.append(Predictor(network, tiles, device).predict(opened.raw.read, opened.raw.shape, roi))
    difference = np.abs(made[0].astype(np.int16) - made[1])
    return {
        "changed": round(float((difference > 0).mean()), 6),
        "changed_by_3": round(float((difference > 2).mean()), 6),
        "largest": int(difference.max()),
    }

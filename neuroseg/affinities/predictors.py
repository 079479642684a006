"""A model bundle -> the predictor of its network, with the tiles of its card."""

from __future__ import annotations

import torch

from neuroseg.affinities.inference import Predictor, TileSettings
from neuroseg.networks.bundle import Bundle
from neuroseg.networks.card import Card


def tile_settings(card: Card, blend: str | None = None) -> TileSettings:
    """Return the tiles of a card. `blend` replaces that of the card."""
    tile = card.tile
    return TileSettings(
        tile.output_voxels, tile.context_voxels, tile.batch, card.raw_scale, len(card.offsets), blend or tile.blend
    )


def open_predictor(bundle: Bundle, device: torch.device, blend: str | None = None) -> Predictor:
    """Return the predictor of a bundle on a device. Raises InputError if weights or tiles do not fit the network."""
    return Predictor(bundle.network(), tile_settings(bundle.card, blend), device)

"""A model bundle -> the predictor of its network, with the tiles of its card."""

from __future__ import annotations

import torch

from neuroseg.affinities.inference import Predictor, TileSettings
from neuroseg.affinities.turned_windows import NO_AUGMENTATION, Augmentation, check_augmentation, parse_augmentation
from neuroseg.networks.bundle import Bundle
from neuroseg.networks.card import Card


def tile_settings(card: Card, blend: str | None = None) -> TileSettings:
    """Return the tiles of a card. `blend` replaces that of the card."""
    tile = card.tile
    return TileSettings(
        tile.output_voxels, tile.context_voxels, tile.batch, card.raw_scale, card.offsets, blend or tile.blend
    )


def checked_augmentation(bundle: Bundle, blend: str | None, text: str | None) -> Augmentation:
    """Return the augmentation of an option, or none. Raises InputError if the windows of a bundle cannot be turned."""
    augmentation = parse_augmentation(text) if text else NO_AUGMENTATION
    settings = tile_settings(bundle.card, blend)
    free = [c - m for c, m in zip(settings.context, bundle.windows.margin, strict=True)]
    check_augmentation(augmentation, settings.offsets, settings.window, free, settings.blend)
    return augmentation


def open_predictor(
    bundle: Bundle, device: torch.device, blend: str | None = None, augmentation: Augmentation = NO_AUGMENTATION
) -> Predictor:
    """Return the predictor of a bundle on a device, with the tile for this kind of device.

    Raises InputError if weights or tiles do not fit the network.
    """
    return Predictor(bundle.network(), tile_settings(bundle.on(device.type).card, blend), device, augmentation)

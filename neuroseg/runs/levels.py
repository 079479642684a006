"""Choose the pyramid level whose voxel size fits a model, and check the voxel size."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neuroseg.errors import InputError
from neuroseg.geometry import Nanometres
from neuroseg.networks.card import Card
from neuroseg.storage.remote import is_remote
from neuroseg.volumes.metadata import ome_levels
from neuroseg.volumes.selection import WHOLE_FILE, Selection
from neuroseg.volumes.zarr_nodes import open_node

_WARN_RATIO, _REFUSE_RATIO = 1.5, 3.0

logger = logging.getLogger(__name__)


def nearest_level(volume: str, voxel_size_nm: Nanometres, selection: Selection = WHOLE_FILE) -> int:
    """Return the pyramid level of an OME-NGFF image with the closest voxel size. Return 0 for other volumes."""
    if not is_remote(volume) and (":" in volume or not Path(volume).is_dir()):
        return 0
    node = open_node(volume)
    levels = [] if hasattr(node, "shape") else ome_levels(node.attrs)
    sizes = [level.voxel_size_nm(volume, selection) for level in levels]
    if len(sizes) < 2 or not all(sizes):
        return 0
    return min(range(len(sizes)), key=lambda n: largest_ratio(sizes[n], voxel_size_nm))


def largest_ratio(size: Any, other: Any) -> float:
    """Return the largest ratio of two voxel sizes over the axes, at least 1."""
    return max(math.exp(abs(math.log(a / b))) for a, b in zip(size, other, strict=True))


def require_suitable_size(card: Card, size: Nanometres, volume: str, *, force: bool) -> None:
    """Raise InputError if a voxel size differs from the model's by more than 3 times. Warn from 1.5 times.

    With `force`, only warn.
    """
    ratio = largest_ratio(size, card.voxel_size_nm)
    text = (
        f"model {card.name} was trained on voxels of {size_text(card.voxel_size_nm)} nm, but {volume} has voxels of "
        f"{size_text(size)} nm ({ratio:.1f} times different)"
    )
    if ratio > _REFUSE_RATIO and not force:
        raise InputError(
            text, hint="choose another pyramid level (--level) or model (--model), or use --force to continue anyway"
        )
    if ratio > _WARN_RATIO:
        logger.warning("%s; expect a poor segmentation", text)


def size_text(size: Sequence[float]) -> str:
    """Return a voxel size as `40 x 4 x 4`."""
    return " x ".join(f"{edge:g}" for edge in size)

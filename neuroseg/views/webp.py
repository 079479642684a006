"""Images -> WebP files as bytes, and the colours of numbers in maps."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

# Colours of values from 0 to 1 at equal steps: the map "viridis" (CC0), which prints well in grey.
_RAMP = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]], np.float64)
_PHOTO_QUALITY = 72


def photo(colours: NDArray[np.floating]) -> bytes:
    """Return an image `(height, width, 3)`, 0 to 1, as WebP with small losses. Use it for micrographs."""
    return _encoded(pixels_of(colours), quality=_PHOTO_QUALITY, method=2)


def drawing(pixels: Pixels) -> bytes:
    """Return an image `(height, width, 3 or 4)` uint8 as WebP without losses. Use it for flat colours."""
    return _encoded(pixels, lossless=True, quality=20, method=1)


def pixels_of(colours: NDArray[np.floating]) -> Pixels:
    """Return colours from 0 to 1 as uint8. Values outside are clipped."""
    pixels: Pixels = np.rint(255 * np.clip(colours, 0, 1)).astype(np.uint8)
    return pixels


def ramp(values: NDArray[np.floating]) -> Pixels:
    """Return the colour `(*shape, 3)` of each value from 0 (dark violet) to 1 (yellow). Values outside are clipped."""
    place = np.clip(values, 0, 1) * (len(_RAMP) - 1)
    channels = [np.interp(place, np.arange(len(_RAMP)), _RAMP[:, channel]) for channel in range(3)]
    pixels: Pixels = np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
    return pixels


def _encoded(pixels: Pixels, **options: object) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "WEBP", **options)
    return file.getvalue()

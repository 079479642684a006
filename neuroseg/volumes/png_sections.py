"""PNG sections: headers and pixels of greyscale images, with the values that the file stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile

from neuroseg.errors import InputError
from neuroseg.volumes.tiff_pages import Header, not_greyscale

_TYPES = {"1": "bool", "L": "uint8", "I;16": "uint16", "I": "uint16"}
_BIT_DEPTH_AT = 24  # of the file: signature (8), chunk header (8), width and height (8)


def png_header(path: Path) -> Header:
    """Return the header of a PNG. Raises InputError for colours, and for depths of 2 and 4 bits."""
    # Image.open refuses images of more than 179 million pixels. Sections may be larger, so use the class.
    with PngImageFile(path) as image:
        if image.mode not in _TYPES:
            raise not_greyscale(str(path), f"mode {image.mode}")
        header = Header((image.height, image.width), np.dtype(_TYPES[image.mode]))
    with path.open("rb") as file:
        file.seek(_BIT_DEPTH_AT)
        bits = file.read(1)[0]
    if bits in (2, 4):
        # Pillow scales them to 0..255, which changes labels.
        raise InputError(
            f"{path} stores {bits} bits per pixel, expected 1, 8 or 16",
            hint="convert it, for example with Fiji: Image > Type > 8-bit",
        )
    return header


def read_png(path: Path) -> NDArray[Any]:
    """Return the pixels of a PNG as (y, x)."""
    with PngImageFile(path) as image:
        return np.asarray(image)

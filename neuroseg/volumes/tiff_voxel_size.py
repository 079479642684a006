"""Voxel sizes in TIFF files: ImageJ's calibration and OME's physical sizes, in nm as (z, y, x).

Resolution tags without a calibrated unit (72 dpi) are ignored: they describe a screen or printer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from tifffile import RESUNIT, TiffFile

from neuroseg.errors import InputError
from neuroseg.geometry import Nanometres
from neuroseg.volumes.lengths import nanometres_per

PartialSize = tuple[float | None, float | None, float | None]
UNKNOWN: PartialSize = (None, None, None)

_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")


def stated_size(tiff: TiffFile, image: int, images: int) -> PartialSize:
    """Return the voxel size of image number `image` of `images`. None along axes that the file does not describe."""
    if tiff.is_ome:
        return _ome_size(tiff.ome_metadata or "", image, images)
    if tiff.is_imagej:
        return _imagej_size(tiff)
    return UNKNOWN


def agreed(sizes: Sequence[PartialSize]) -> PartialSize:
    """Return the voxel size that all files share. None along axes on which they differ."""
    z, y, x = (stated[0] if len(set(stated)) == 1 else None for stated in zip(*sizes, strict=True))
    return (z, y, x)


def whole_size(stated: PartialSize, name: str) -> Nanometres | None:
    """Return a voxel size that is known along all axes, or None if no axis is known. Otherwise raise InputError."""
    known = {axis: size for axis, size in zip("zyx", stated, strict=True) if size is not None}
    if len(known) == 3:
        return (known["z"], known["y"], known["x"])
    if not known:
        return None
    found = ", ".join(f"{axis} {size:g} nm" for axis, size in known.items())
    example = " ".join(f"{known[axis]:g}" if axis in known else axis.upper() for axis in "zyx")
    raise InputError(
        f"{name} states only part of its voxel size ({found}), expected z, y and x",
        hint=f"give all three in nm: --voxel-size {example}",
    )


def _ome_size(description: str, image: int, images: int) -> PartialSize:
    root = ElementTree.fromstring(description)
    pixels = [element for element in root.iter() if element.tag.rpartition("}")[2] == "Pixels"]
    if len(pixels) != images:
        return UNKNOWN  # some images have no pages, so it is not certain which one this is
    stated = pixels[image].attrib
    z, y, x = (_length(stated.get(f"PhysicalSize{a}"), stated.get(f"PhysicalSize{a}Unit", "µm")) for a in "ZYX")
    return (z, y, x)


def _imagej_size(tiff: TiffFile) -> PartialSize:
    """Return ImageJ's calibration: spacing along z, and pixels per unit along y and x."""
    stated: Mapping[str, Any] = tiff.imagej_metadata or {}
    unit = stated.get("unit")
    tags = tiff.pages[0].tags
    z = _length(stated.get("spacing"), stated.get("zunit", unit))
    if tags.valueof("ResolutionUnit") not in (None, RESUNIT.NONE):
        return (z, None, None)  # pixels per inch or centimetre contradict pixels per calibrated unit
    y = _pixel(tags.valueof("YResolution"), stated.get("yunit", unit))
    x = _pixel(tags.valueof("XResolution"), unit)
    return (z, y, x)


def _pixel(per_unit: Any, unit: Any) -> float | None:
    """Return the length of a pixel in nm from the fraction (pixels, units)."""
    try:
        pixels, units = per_unit
        return _length(units / pixels, unit)
    except (TypeError, ValueError, ZeroDivisionError):
        return None


def _length(value: Any, unit: Any) -> float | None:
    """Return a length in nm. None unless it is a positive number in a unit of length."""
    text = _ESCAPED.sub(lambda code: chr(int(code[1], 16)), str(unit))
    factor = nanometres_per(text)
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number * factor if factor and 0 < number < math.inf else None

"""Conversions between voxels, nanometres and boxes.

Inside the pipeline every region is a `Roi` in voxels of the full volume, axes z, y, x. Nanometres are used only to
read, write and compare volumes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from funlib.geometry import Coordinate, Roi

from neuroseg.errors import InputError

Triple = tuple[int, int, int]
Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Begin and end of a region along z, y and x, in voxels."""
Nanometres = tuple[float, float, float]

_LARGEST_MISALIGNMENT_VOXELS = 1e-3


def triple(values: Sequence[int]) -> Triple:
    """Return three values as a tuple of Python integers.

    Raises InputError unless there are exactly three.
    """
    if len(values) != 3:
        raise InputError(f"expected three values (z, y, x), found {list(values)}")
    z, y, x = (int(value) for value in values)
    return (z, y, x)


def whole(shape: Sequence[int]) -> Roi:
    """Return the region that covers a volume of `shape`."""
    return Roi((0, 0, 0), tuple(shape))


def slices(roi: Roi, origin: Sequence[int] = (0, 0, 0)) -> tuple[slice, slice, slice]:
    """Return the slices of `roi` in an array with its first voxel at `origin`."""
    z, y, x = (
        slice(int(begin - start), int(end - start))
        for begin, end, start in zip(roi.begin, roi.end, origin, strict=True)
    )
    return (z, y, x)


def grown(roi: Roi, halo: Sequence[int], bounds: Roi) -> Roi:
    """Return `roi` grown by `halo` voxels on every side and clipped to `bounds`."""
    return roi.grow(Coordinate(halo), Coordinate(halo)).intersect(bounds)


def parse_triple(text: str, what: str, least: int = 1) -> Triple:
    """Return `N` or `Z,Y,X` as three integers.

    Raises InputError that names the option `what` if `text` is malformed or a number is below `least`.
    """
    parts = [part.strip() for part in text.split(",")]
    hint = f"use whole numbers of voxels, such as {what} 256 or {what} 64,256,256"
    if len(parts) not in (1, 3) or not all(re.fullmatch(r"[+-]?\d+", part) for part in parts):
        raise InputError(f"{what} {text!r} is neither a whole number nor three (Z,Y,X)", hint=hint)
    values = [int(part) for part in parts]
    if min(values) < least:
        raise InputError(f"{what} {text!r} contains {min(values)}, expected {least} or more", hint=hint)
    return triple(values * 3 if len(values) == 1 else values)


def parse_roi(text: str, shape: Sequence[int]) -> Roi:
    """Return `z0:z1,y0:y1,x0:x1` in voxels as a region of a volume of `shape`.

    A missing begin is 0, a missing end the volume's end. Raises InputError if the region is malformed, empty or not
    inside the volume.
    """
    parts = [part.strip() for part in text.split(",")]
    matches = [re.fullmatch(r"(-?\d+)?:(-?\d+)?", part) for part in parts]
    if len(parts) != 3 or not all(matches):
        raise InputError(
            f"ROI {text!r} is not of the form z0:z1,y0:y1,x0:x1",
            hint="give begin:end in voxels for z, y and x; you may omit a number, as in 0:64,:,:",
        )
    begins, ends = [], []
    for match, size in zip(matches, shape, strict=True):
        assert match is not None
        begins.append(int(match[1] or 0))
        ends.append(int(match[2] or size))
    described = ",".join(f"0:{size}" for size in shape)
    if any(begin >= end for begin, end in zip(begins, ends, strict=True)):
        raise InputError(
            f"ROI {text!r} is empty; the volume is {described}", hint="make each end larger than its begin"
        )
    if any(begin < 0 or end > size for begin, end, size in zip(begins, ends, shape, strict=True)):
        raise InputError(f"ROI {text!r} reaches outside the volume {described}", hint="choose a region inside it")
    return Roi(begins, [end - begin for begin, end in zip(begins, ends, strict=True)])


def describe(roi: Roi) -> str:
    """Return a region as `z0:z1,y0:y1,x0:x1`."""
    return ",".join(f"{begin}:{end}" for begin, end in zip(roi.begin, roi.end, strict=True))


def describe_box(box: Box) -> str:
    """Return the begins and ends of a region as `z0:z1,y0:y1,x0:x1`."""
    return ",".join(f"{begin}:{end}" for begin, end in box)


def voxels_between(
    offset_nm: Sequence[float], other_offset_nm: Sequence[float], voxel_size_nm: Sequence[float]
) -> Triple:
    """Return the difference `offset_nm` - `other_offset_nm` in voxels.

    Raises InputError unless it is a whole number of voxels along each axis.
    """
    exact = (np.asarray(offset_nm, float) - np.asarray(other_offset_nm, float)) / np.asarray(voxel_size_nm, float)
    rounded = np.round(exact)
    if np.abs(exact - rounded).max() > _LARGEST_MISALIGNMENT_VOXELS:
        raise InputError(
            f"offsets {list(offset_nm)} nm and {list(other_offset_nm)} nm differ by {exact.tolist()} voxels "
            f"of {list(voxel_size_nm)} nm, expected a whole number"
        )
    return triple([int(value) for value in rounded])


def parse_offsets(value: object) -> tuple[Triple, ...]:
    """Return affinity offsets (z, y, x) in voxels, one per channel.

    `value` is a nested list of whole numbers, or text such as `-1,0,0;0,-1,0;0,0,-1`. Raises InputError otherwise.
    """
    try:
        rows: object = value
        if isinstance(value, str):
            rows = [[int(number) for number in row.split(",")] for row in value.replace(" ", "").split(";")]
        offsets = tuple(triple(row) for row in rows)  # type: ignore[attr-defined]
        if not offsets or any(int(step) != step for row in rows for step in row):  # type: ignore[attr-defined]
            raise ValueError("expected whole numbers")
        return offsets
    except (TypeError, ValueError) as error:
        raise InputError(
            f"offsets {value!r} are not rows of z,y,x steps", hint="write them as in -1,0,0;0,-1,0;0,0,-1"
        ) from error


def contact_channels(offsets: Sequence[Triple]) -> tuple[int, int, int]:
    """Return the channel that links direct neighbours along z, y and x.

    If an axis has several, return the first. A channel may point down (-1) or up (+1). Raises InputError if an axis
    has none.
    """
    found: list[int] = []
    for axis in range(3):
        unit = [1 if a == axis else 0 for a in range(3)]
        channels = [c for c, offset in enumerate(offsets) if [abs(step) for step in offset] == unit]
        if not channels:
            raise InputError(f"no affinity channel links direct neighbours along {'zyx'[axis]}; offsets: {offsets}")
        found.append(channels[0])
    return (found[0], found[1], found[2])


def long_range_channels(offsets: Sequence[Triple]) -> tuple[int, ...]:
    """Return the channels that link voxels that are not direct neighbours, in ascending order."""
    return tuple(c for c, offset in enumerate(offsets) if sum(abs(step) for step in offset) > 1)


def reach_of(offsets: Sequence[Triple]) -> Triple:
    """Return the largest absolute offset along z, y and x, in voxels."""
    return triple([max(abs(offset[axis]) for offset in offsets) for axis in range(3)])
